//! The proofs that shared structs are plain bytes.
//!
//! Non-generic structs carry bytemuck's derive, which refuses padding at compile time. A derive
//! can't see through the type parameter of the others; here each instance is proven by the sum of
//! its fields.
#![expect(unsafe_code, reason = "Pod and Zeroable are unsafe traits")]

use bytemuck::{Pod, Zeroable};

use crate::{
    conntrack::{Entry, HalfOpenPlace},
    family::{Family, V4, V6},
    nat::{PortKey, PublishTarget},
    senders::ScopedAddr,
    service::{Backend, MAX_BACKENDS, Service},
    tuple::Tuple,
};

macro_rules! pod {
    ($($name:ident { $($size:expr),+ $(,)? })+) => {$(
        pod!(@family $name V4 { $($size),+ });
        pod!(@family $name V6 { $($size),+ });
    )+};
    (@family $name:ident $family:ident { $($size:expr),+ }) => {
        const _: () = {
            const ADDR: usize = size_of::<<$family as Family>::Addr>();
            const fn sum(addr: usize) -> usize { let _ = addr; 0 $(+ ($size)(addr))+ }
            assert!(size_of::<$name<$family>>() == sum(ADDR), "padding");
        };
        // SAFETY: repr(C), every field is plain bytes, and their sizes add up: no padding.
        unsafe impl Zeroable for $name<$family> {}
        // SAFETY: as above; any bit pattern is a valid value of each field.
        unsafe impl Pod for $name<$family> {}
        #[cfg(feature = "user")]
        // SAFETY: as above.
        unsafe impl aya::Pod for $name<$family> {}
    };
}

const fn addrs<const N: usize>(addr: usize) -> usize {
    N * addr
}

const fn bytes<const N: usize>(_addr: usize) -> usize {
    N
}

const fn backends(addr: usize) -> usize {
    MAX_BACKENDS * (addr + 8)
}

pod! {
    Tuple { addrs::<2>, bytes::<8> }
    Entry { bytes::<{ 16 + 12 + 4 + 24 + 20 + 4 }>, addrs::<2>, bytes::<8> }
    HalfOpenPlace { bytes::<8>, addrs::<2>, bytes::<8> }
    PortKey { addrs::<1>, bytes::<4> }
    PublishTarget { addrs::<1>, bytes::<12> }
    ScopedAddr { addrs::<1>, bytes::<4> }
    Backend { addrs::<1>, bytes::<8> }
    Service { bytes::<8>, backends }
}

#[cfg(feature = "user")]
mod user {
    use crate::{
        config::GlobalConfig,
        conntrack::Rooms,
        endpoint::{Endpoint, HostAddress, Interface, MacKey, Network},
        nat::MappingKey,
        senders::{LinkKey, TrustedInterface},
        socket::{Asked, Peer, SocketKey},
        verdict::Counter,
        wire::{Ipv4, Ipv6, Mac},
    };

    macro_rules! aya_pod {
        ($($name:ident)+) => {$(
            // SAFETY: bytemuck's derive proved the struct to be plain bytes without padding.
            unsafe impl aya::Pod for $name {}
        )+};
    }

    aya_pod! {
        Asked Counter Endpoint GlobalConfig HostAddress Interface Ipv4 Ipv6 LinkKey Mac MacKey
        MappingKey Network Peer Rooms SocketKey TrustedInterface
    }
}

#[cfg(test)]
mod tests;
