//! Hooks on interfaces: TCX links, pinned one by one as `links/<hook>-<ifindex>`, or where there is
//! no TCX, filters of `clsact`, whose programs are pinned as `links/<hook>-<ifindex>_clsact`.
//!
//! A link holds the program first in its chain and outlives this process by its pin. Nothing here
//! knows why an interface is hooked, and nothing of somebody else's is ever detached.

use std::{fs, io, path::PathBuf};

use aya::programs::{
    LinkOrder, ProgramInfo, SchedClassifier, TcAttachType,
    links::{FdLink, PinnedLink},
    tc::TcAttachOptions,
};
use netbpf_common::{endpoint::role, verdict::Hook};
use nix::errno::Errno;

use super::{Error, Objects, clsact, pin, programs};
use crate::host::{bpffs::PinDirs, kernel::Features, link::Framing, tc};

/// The hooks of an interface in each role.
pub const fn hooks_of(role: u8) -> &'static [Hook] {
    match role {
        role::CONTAINER => &[Hook::FromContainer, Hook::ToContainer],
        role::BRIDGE => &[Hook::FromBridge],
        role::UPLINK => &[Hook::FromNetdev, Hook::ToNetdev],
        role::LOOPBACK => &[Hook::FromLocal],
        _ => &[],
    }
}

const fn attach_type(hook: Hook) -> TcAttachType {
    match hook {
        Hook::FromContainer | Hook::FromNetdev | Hook::FromBridge => TcAttachType::Ingress,
        _ => TcAttachType::Egress,
    }
}

/// The name of a hook's program for interfaces with that framing.
pub const fn program_of(hook: Hook, framing: Framing) -> &'static str {
    match (framing, hook) {
        (Framing::Bare, Hook::FromNetdev) => "from_netdev_l3",
        (Framing::Bare, Hook::ToNetdev) => "to_netdev_l3",
        _ => hook.name(),
    }
}

/// Where one hook meets one interface.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Place {
    /// The hook.
    pub hook: Hook,
    /// What the interface's packets begin with.
    pub framing: Framing,
    /// The interface's name in the host's namespace.
    pub interface: String,
}

impl Place {
    /// The name of the program that runs here.
    pub fn program(&self) -> &'static str {
        program_of(self.hook, self.framing)
    }

    /// The pinned link that hangs here, if the interface has this number.
    pub fn pinned(&self, ifindex: u32) -> PinnedHook {
        PinnedHook {
            hook: self.hook,
            framing: self.framing,
            means: Means::here(),
            ifindex,
        }
    }

    fn error(&self, what: &'static str) -> impl Fn(String) -> Error {
        move |cause| Error::Hook {
            what,
            hook: self.hook.name(),
            interface: self.interface.clone(),
            cause,
        }
    }

    /// Whether the loaded program runs here: the pinned link is alive, on this very interface, and
    /// has the program that is pinned now.
    ///
    /// A link whose interface is gone keeps its pin and its program, so the interface is asked
    /// too: in a namespace that was made anew an ifindex comes again.
    ///
    /// # Errors
    ///
    /// A failed system call; an interface that is gone is no error.
    pub fn is_hooked(&self, pins: &PinDirs, ifindex: u32) -> Result<bool, Error> {
        let running = match Means::here() {
            Means::Tcx => self.linked_program(pins, ifindex)?,
            Means::Clsact => {
                let pin = self.pinned(ifindex).path(pins);
                let side = clsact::side(attach_type(self.hook));
                clsact::attached(&pin, ifindex, side).map_err(self.error("look for"))?
            }
        };
        let Some(program) = running else {
            return Ok(false);
        };
        let pinned = pins.progs.join(self.program());
        if !pinned.exists() {
            return Ok(false);
        }
        let error = self.error("look for");
        let current = ProgramInfo::from_pin(pinned).map_err(|source| error(cause(&source)))?;
        if current.id() != program {
            return Ok(false);
        }
        if Means::here() == Means::Clsact {
            return Ok(true);
        }
        match SchedClassifier::query_tcx(&self.interface, attach_type(self.hook)) {
            Ok((_, attached)) => Ok(attached.iter().any(|info| info.id() == program)),
            // The interface, or a foreign program on it, went away between two system calls.
            Err(_) => Ok(false),
        }
    }

    /// The id of the program that the pinned link runs; `None` without a pin.
    fn linked_program(&self, pins: &PinDirs, ifindex: u32) -> Result<Option<u32>, Error> {
        let pin = self.pinned(ifindex).path(pins);
        if !pin.exists() {
            return Ok(None);
        }
        let error = self.error("look for");
        let link = PinnedLink::from_pin(pin).map_err(|source| error(cause(&source)))?;
        let info = FdLink::from(link)
            .info()
            .map_err(|source| error(cause(&source)))?;
        Ok(Some(info.program_id()))
    }

    /// Attaches the loaded program first in the chain and pins the link. A link that was pinned
    /// here before, dead or with another program, gives way only then.
    ///
    /// # Errors
    ///
    /// The interface is missing, or a failed system call.
    pub fn attach(&self, pins: &PinDirs, ifindex: u32) -> Result<(), Error> {
        let error = self.error("attach");
        let pin = self.pinned(ifindex).path(pins);
        if Means::here() == Means::Clsact {
            let mut program = SchedClassifier::from_pin(pins.progs.join(self.program()))
                .map_err(|source| error(cause(&source)))?;
            return clsact::attach(&mut program, &pin, ifindex, attach_type(self.hook))
                .map_err(error);
        }
        let fresh = pin::fresh(&pin).map_err(|source| error(cause(&source)))?;
        let mut program = SchedClassifier::from_pin(pins.progs.join(self.program()))
            .map_err(|source| error(cause(&source)))?;
        let link = program
            .attach_with_options(
                &self.interface,
                attach_type(self.hook),
                TcAttachOptions::TcxOrder(LinkOrder::first()),
            )
            .and_then(|id| program.take_link(id))
            .map_err(|source| error(cause(&source)))?;
        FdLink::try_from(link)
            .map_err(|source| error(cause(&source)))?
            .pin(&fresh)
            .map_err(|source| error(cause(&source)))?;
        fs::rename(&fresh, &pin).map_err(|source| error(cause(&source)))
    }
}

/// The innermost cause in words: the outer ones only name the system call.
pub(super) fn cause(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        words = format!("{words}: {source}");
        next = source.source();
    }
    words
}

/// By what a program hangs on an interface.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Means {
    /// A link.
    Tcx,
    /// A filter.
    Clsact,
}

impl Means {
    /// What this kernel allows.
    pub fn here() -> Self {
        match Features::detect() {
            Ok(features) if features.tcx => Self::Tcx,
            _ => Self::Clsact,
        }
    }
}

/// A pinned link by its name: the program and the ifindex that it was made for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PinnedHook {
    /// The hook.
    pub hook: Hook,
    /// What the packets of its interface begin with.
    pub framing: Framing,
    /// By what it hangs there.
    pub means: Means,
    /// The interface's ifindex when it was attached.
    pub ifindex: u32,
}

impl PinnedHook {
    fn path(self, pins: &PinDirs) -> PathBuf {
        let program = program_of(self.hook, self.framing);
        let suffix = match self.means {
            Means::Tcx => "",
            Means::Clsact => CLSACT,
        };
        pins.links
            .join(format!("{program}-{}{suffix}", self.ifindex))
    }
}

/// The pinned links, by ifindex and hook; names that are no link's are left out.
///
/// # Errors
///
/// A failed system call; a directory that is missing is no error.
pub fn pinned(pins: &PinDirs) -> Result<Vec<PinnedHook>, Error> {
    let entries = match fs::read_dir(&pins.links) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => {
            return Err(Error::Pin {
                path: pins.links.clone(),
                source,
            });
        }
    };
    let mut found: Vec<PinnedHook> = entries
        .filter_map(Result::ok)
        .filter_map(|entry| parse_link_name(entry.file_name().to_str()?))
        .collect();
    found.sort_by_key(|pin| (pin.ifindex, pin.hook as u8));
    Ok(found)
}

/// How the name of a filter's pin ends.
const CLSACT: &str = "_clsact";

fn parse_link_name(name: &str) -> Option<PinnedHook> {
    let (name, means) = match name.strip_suffix(CLSACT) {
        Some(name) => (name, Means::Clsact),
        None => (name, Means::Tcx),
    };
    let (program, ifindex) = name.rsplit_once('-')?;
    let (hook, framing) =
        programs(Objects::All).find(|(hook, framing)| program_of(*hook, *framing) == program)?;
    Some(PinnedHook {
        hook,
        framing,
        means,
        ifindex: ifindex.parse().ok()?,
    })
}

/// Ends a link: the program no longer runs at its place.
///
/// # Errors
///
/// A failed system call; a pin that is gone is no error.
pub fn detach(pins: &PinDirs, hook: PinnedHook) -> Result<(), Error> {
    let pin = hook.path(pins);
    if hook.means == Means::Clsact {
        tc::delete(hook.ifindex, clsact::side(attach_type(hook.hook))).map_err(|source| {
            Error::Program {
                name: program_of(hook.hook, hook.framing),
                cause: source.to_string(),
            }
        })?;
    }
    pin::remove_if_there(&pin).map_err(|source| Error::Pin { path: pin, source })
}

/// Gives every pinned link of a hook the loaded `program`, each in one step.
///
/// # Errors
///
/// A failed system call; the links before it have the new program then. A link whose interface is
/// gone can't be changed and is ended instead.
pub(super) fn replace(
    pins: &PinDirs,
    (hook, framing): (Hook, Framing),
    program: &mut SchedClassifier,
) -> Result<(), Error> {
    let is_its = |pin: &PinnedHook| pin.hook == hook && pin.framing == framing;
    for pin in pinned(pins)?.into_iter().filter(is_its) {
        let path = pin.path(pins);
        let error = |cause: String| Error::Program {
            name: program_of(hook, framing),
            cause,
        };
        if pin.means == Means::Clsact {
            let side = clsact::side(attach_type(hook));
            if clsact::attached(&path, pin.ifindex, side)
                .map_err(error)?
                .is_none()
            {
                detach(pins, pin)?;
                continue;
            }
            clsact::attach(program, &path, pin.ifindex, attach_type(hook)).map_err(error)?;
            continue;
        }
        let link = PinnedLink::from_pin(&path).map_err(|source| error(cause(&source)))?;
        let link = FdLink::from(link)
            .try_into()
            .map_err(|source| error(cause(&source)))?;
        let replaced = program
            .attach_to_link(link)
            .and_then(|id| program.take_link(id));
        match replaced {
            // Only the file descriptor closes here: the pin keeps the link.
            Ok(link) => drop(link),
            Err(source) if is_of_gone_interface(&source) => detach(pins, pin)?,
            Err(source) => return Err(error(cause(&source))),
        }
    }
    Ok(())
}

/// Whether the kernel refused because the link has lost its interface: `ENOLINK`.
fn is_of_gone_interface(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return error.raw_os_error() == Some(Errno::ENOLINK as i32);
        }
        next = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_gone_interface_ends_a_link() {
        let refusal = |errno: Errno| {
            aya::programs::ProgramError::SyscallError(aya::sys::SyscallError {
                call: "bpf_link_update",
                io_error: io::Error::from(errno),
            })
        };
        assert!(is_of_gone_interface(&refusal(Errno::ENOLINK)));
        assert!(!is_of_gone_interface(&refusal(Errno::ENOMEM)));
        assert!(!is_of_gone_interface(&refusal(Errno::EINVAL)));
    }

    #[test]
    fn link_names_say_hook_and_ifindex() {
        assert_eq!(
            parse_link_name("from_container-12"),
            Some(PinnedHook {
                hook: Hook::FromContainer,
                framing: Framing::Ethernet,
                means: Means::Tcx,
                ifindex: 12
            })
        );
        assert_eq!(
            parse_link_name("to_netdev_l3-7_clsact"),
            Some(PinnedHook {
                hook: Hook::ToNetdev,
                framing: Framing::Bare,
                means: Means::Clsact,
                ifindex: 7
            })
        );
        assert_eq!(parse_link_name("from_nowhere-12"), None);
        assert_eq!(parse_link_name("to_netdev-x"), None);
    }
}
