//! Whether the namespace has IPsec policies (XFRM). It never says which.

use rtnetlink::sys::{Socket, protocols::NETLINK_XFRM};

use super::error::{Doing as _, Result};

/// `XFRM_MSG_GETSPDINFO` and its answer `XFRM_MSG_NEWSPDINFO` (`linux/xfrm.h`).
const GET_SPD_INFO: u16 = 0x25;
const NEW_SPD_INFO: u16 = 0x24;

/// `XFRMA_SPD_INFO`: how many policies there are in, out and forward, then those of sockets.
const SPD_INFO: u16 = 1;

/// `XFRMNLGRP_POLICY`: policies that come and go.
const POLICY_GROUP: u32 = 4;

const HEADER: usize = 16;
const REQUEST: u16 = 1;

/// Whether packets that leave the calling thread's namespace, or pass through it, can meet an IPsec
/// policy. A kernel without XFRM has none.
pub fn has_policies() -> Result<bool> {
    let Some(socket) = socket()? else {
        return Ok(false);
    };
    let action = || "count the IPsec policies".to_owned();
    socket.send(&request(), 0).doing(action)?;
    let (answer, _) = socket.recv_from_full().doing(action)?;
    Ok(counts(&answer).is_some_and(|[_, out, forward]| out + forward > 0))
}

/// A socket that is readable when policies have come or gone; none where the kernel has no XFRM.
pub fn watch() -> Result<Option<Socket>> {
    let Some(mut socket) = socket()? else {
        return Ok(None);
    };
    let action = || "watch the IPsec policies".to_owned();
    socket.bind_auto().doing(action)?;
    socket.add_membership(POLICY_GROUP).doing(action)?;
    socket.set_non_blocking(true).doing(action)?;
    Ok(Some(socket))
}

fn socket() -> Result<Option<Socket>> {
    match Socket::new(NETLINK_XFRM) {
        Ok(socket) => Ok(Some(socket)),
        Err(error) if error.raw_os_error() == Some(nix::errno::Errno::EPROTONOSUPPORT as i32) => {
            Ok(None)
        }
        Err(error) => Err(error).doing(|| "ask for the IPsec policies".to_owned()),
    }
}

/// A netlink message without attributes; its payload is a word of flags.
fn request() -> [u8; HEADER + 4] {
    let mut message = [0; HEADER + 4];
    let len = u32::try_from(message.len()).unwrap_or_default();
    message[..4].copy_from_slice(&len.to_ne_bytes());
    message[4..6].copy_from_slice(&GET_SPD_INFO.to_ne_bytes());
    message[6..8].copy_from_slice(&REQUEST.to_ne_bytes());
    message
}

/// The numbers of policies in, out and forward, if the message says them.
fn counts(message: &[u8]) -> Option<[u32; 3]> {
    let word = |at: usize| {
        Some(u32::from_ne_bytes(
            message.get(at..at + 4)?.try_into().ok()?,
        ))
    };
    let half = |at: usize| {
        Some(u16::from_ne_bytes(
            message.get(at..at + 2)?.try_into().ok()?,
        ))
    };
    if half(4)? != NEW_SPD_INFO {
        return None;
    }
    let mut at = HEADER + 4;
    loop {
        let len = usize::from(half(at)?);
        if half(at + 2)? == SPD_INFO {
            return Some([word(at + 4)?, word(at + 8)?, word(at + 12)?]);
        }
        at += len.max(4).next_multiple_of(4);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(kind: u16, counts: [u32; 6]) -> Vec<u8> {
        let mut message = request().to_vec();
        message[4..6].copy_from_slice(&kind.to_ne_bytes());
        // An attribute that nobody asked for comes first.
        message.extend([5_u16, 9].map(u16::to_ne_bytes).concat());
        message.extend([1, 0, 0, 0]);
        message.extend([28_u16, SPD_INFO].map(u16::to_ne_bytes).concat());
        message.extend(counts.map(u32::to_ne_bytes).concat());
        message
    }

    #[test]
    fn policies_are_counted_by_direction() {
        let message = answer(NEW_SPD_INFO, [1, 2, 3, 4, 5, 6]);
        assert_eq!(counts(&message), Some([1, 2, 3]));
        assert_eq!(counts(&message[..message.len() - 20]), None);
        assert_eq!(counts(&answer(2, [1; 6])), None);
    }
}
