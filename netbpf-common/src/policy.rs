//! Who may talk to whom, asked once per flow.

use self::flags::{ICC, INTERNAL, UNPROTECTED};
use crate::verdict::DropReason;

/// What one family of a network is like, see [`crate::family::Family::flags`].
pub mod flags {
    use crate::endpoint::network_flags;

    /// Its containers may talk to each other.
    pub const ICC: u32 = network_flags::ICC;
    /// No way in or out.
    pub const INTERNAL: u32 = network_flags::INTERNAL;
    /// What leaves the host gets the host's address.
    pub const MASQUERADE: u32 = network_flags::MASQUERADE_V4;
    /// Every port of its containers is reached from everywhere.
    pub const UNPROTECTED: u32 = network_flags::UNPROTECTED_V4;
    /// Its containers' published ports are reached by the containers' own addresses.
    pub const ROUTED: u32 = network_flags::ROUTED_V4;
    /// It has interfaces or sources that it trusts.
    pub const TRUSTED: u32 = network_flags::TRUSTED;
    /// All of them.
    pub const ALL: u32 = ICC | INTERNAL | MASQUERADE | UNPROTECTED | ROUTED | TRUSTED;
}

/// One side of a flow, as policy sees it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Party {
    /// The host itself.
    Host {
        /// The network whose gateway address this is; 0: another address of the host.
        gateway_of: u32,
    },
    /// A container.
    Container {
        /// Its network.
        network: u32,
        /// That network's [`flags`], in the family of the flow.
        flags: u32,
    },
    /// Anything beyond the host.
    Outside,
}

/// Whether a mapping (a published port or a service) leads to the receiver.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Access {
    /// The receiver's own address was asked.
    Direct,
    /// A published port of the host.
    Published,
    /// A service of the sender's network.
    Service,
    /// The receiver's own address was asked, for what is open there: a published port or an echo
    /// in a network that is routed, a published port by a sender that the network trusts.
    Opened,
    /// The receiver's own address was asked, at a port to which the sender has a link.
    Linked,
}

/// The table of design §1, for flows.
///
/// # Errors
///
/// The reason why the flow must not be.
#[inline(always)]
pub const fn decide(from: Party, to: Party, access: Access) -> Result<(), DropReason> {
    match (from, to) {
        (Party::Host { .. } | Party::Outside, Party::Host { .. } | Party::Outside) => Ok(()),
        (Party::Host { .. }, Party::Container { .. }) => Ok(()),
        (Party::Container { network, flags }, Party::Host { gateway_of }) => {
            if flags & INTERNAL != 0 && gateway_of != network {
                return Err(DropReason::InternalNetwork);
            }
            Ok(())
        }
        (Party::Container { flags, .. }, Party::Outside) => {
            if flags & INTERNAL != 0 {
                return Err(DropReason::InternalNetwork);
            }
            Ok(())
        }
        (Party::Outside, Party::Container { flags, .. }) => {
            if flags & INTERNAL != 0 {
                return Err(DropReason::InternalNetwork);
            }
            match access {
                Access::Published | Access::Opened => Ok(()),
                Access::Direct if flags & UNPROTECTED != 0 => Ok(()),
                Access::Direct | Access::Service | Access::Linked => Err(DropReason::DirectAccess),
            }
        }
        (
            Party::Container {
                network: from,
                flags: from_flags,
            },
            Party::Container {
                network: to,
                flags: to_flags,
            },
        ) => {
            if from == to {
                return match access {
                    Access::Direct | Access::Opened if to_flags & ICC == 0 => {
                        Err(DropReason::IccDisabled)
                    }
                    _ => Ok(()),
                };
            }
            if (from_flags | to_flags) & INTERNAL != 0 {
                return Err(DropReason::InternalNetwork);
            }
            match access {
                Access::Published | Access::Opened => Ok(()),
                Access::Direct if to_flags & UNPROTECTED != 0 => Ok(()),
                Access::Direct | Access::Service | Access::Linked => {
                    Err(DropReason::IsolatedNetwork)
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
