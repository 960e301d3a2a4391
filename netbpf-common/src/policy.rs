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

/// Whose side of a flow it is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Role {
    /// The host itself.
    Host,
    /// A container.
    Container,
    /// Anything beyond the host.
    Outside,
}

/// One side of a flow, as policy sees it. Every field has a value in every role: a verifier before
/// Linux 6.3 refuses to copy what was never written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Party {
    /// Whose side it is.
    pub role: Role,
    /// A container's network; the network whose gateway address the host's is; else 0.
    pub network: u32,
    /// A container's network's [`flags`], in the family of the flow; else 0.
    pub flags: u32,
}

impl Party {
    /// Anything beyond the host.
    pub const OUTSIDE: Self = Self {
        role: Role::Outside,
        network: 0,
        flags: 0,
    };

    /// The host itself, by an address that is the gateway of a network; 0: by another one.
    pub const fn host(gateway_of: u32) -> Self {
        Self {
            role: Role::Host,
            network: gateway_of,
            flags: 0,
        }
    }

    /// A container of a network with these [`flags`].
    pub const fn container(network: u32, flags: u32) -> Self {
        Self {
            role: Role::Container,
            network,
            flags,
        }
    }

    /// Whether it is a container of this network.
    pub const fn is_of(self, network: u32) -> bool {
        matches!(self.role, Role::Container) && self.network == network
    }
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
    match (from.role, to.role) {
        (Role::Host | Role::Outside, Role::Host | Role::Outside)
        | (Role::Host, Role::Container) => Ok(()),
        (Role::Container, Role::Host) => {
            if from.flags & INTERNAL != 0 && to.network != from.network {
                return Err(DropReason::InternalNetwork);
            }
            Ok(())
        }
        (Role::Container, Role::Outside) => {
            if from.flags & INTERNAL != 0 {
                return Err(DropReason::InternalNetwork);
            }
            Ok(())
        }
        (Role::Container, Role::Container) if from.network == to.network => match access {
            Access::Direct | Access::Opened if to.flags & ICC == 0 => Err(DropReason::IccDisabled),
            _ => Ok(()),
        },
        (Role::Container | Role::Outside, Role::Container) => {
            if (from.flags | to.flags) & INTERNAL != 0 {
                return Err(DropReason::InternalNetwork);
            }
            match access {
                Access::Published | Access::Opened => Ok(()),
                Access::Direct if to.flags & UNPROTECTED != 0 => Ok(()),
                Access::Direct | Access::Service | Access::Linked => Err(not_opened(from)),
            }
        }
    }
}

/// Why a container's own address is closed to somebody of elsewhere.
#[inline(always)]
const fn not_opened(from: Party) -> DropReason {
    match from.role {
        Role::Container => DropReason::IsolatedNetwork,
        _ => DropReason::DirectAccess,
    }
}

#[cfg(test)]
mod tests;
