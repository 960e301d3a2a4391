//! Who may talk to whom, asked once per flow.

use crate::{
    endpoint::network_flags::{ICC, INTERNAL},
    verdict::DropReason,
};

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
        /// That network's [`crate::endpoint::network_flags`].
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
                Access::Published => Ok(()),
                Access::Direct | Access::Service => Err(DropReason::DirectAccess),
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
                    Access::Direct if to_flags & ICC == 0 => Err(DropReason::IccDisabled),
                    _ => Ok(()),
                };
            }
            if (from_flags | to_flags) & INTERNAL != 0 {
                return Err(DropReason::InternalNetwork);
            }
            match access {
                Access::Published => Ok(()),
                Access::Direct | Access::Service => Err(DropReason::IsolatedNetwork),
            }
        }
    }
}

#[cfg(test)]
mod tests;
