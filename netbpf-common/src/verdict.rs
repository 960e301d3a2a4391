//! How a packet leaves a hook, and why.

/// The hooks that count.
#[repr(u8)]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Hook {
    /// Host side of a container's veth, ingress.
    FromContainer = 0,
    /// Host side of a container's veth, egress.
    ToContainer = 1,
    /// An interface to the outside, ingress.
    FromNetdev = 2,
    /// An interface to the outside, egress.
    ToNetdev = 3,
    /// One of our bridges, ingress.
    FromBridge = 4,
}

impl Hook {
    /// Every hook, in the order of its number.
    pub const ALL: [Self; 5] = [
        Self::FromContainer,
        Self::ToContainer,
        Self::FromNetdev,
        Self::ToNetdev,
        Self::FromBridge,
    ];

    /// The name of the hook's program.
    pub const fn name(self) -> &'static str {
        match self {
            Self::FromContainer => "from_container",
            Self::ToContainer => "to_container",
            Self::FromNetdev => "from_netdev",
            Self::ToNetdev => "to_netdev",
            Self::FromBridge => "from_bridge",
        }
    }
}

/// How a packet leaves a hook.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// Not ours, or allowed as it is: the next program, then the stack or the wire.
    Pass,
    /// On to the host's stack, marked as allowed.
    ToHost,
    /// As [`Verdict::ToHost`] because the short way can't take it; counted.
    Stack(StackReason),
    /// Into the container behind this veth.
    Container {
        /// The host side of the veth.
        ifindex: u32,
    },
    /// The redirect is already set up, by a helper that returned this action.
    Redirected(i32),
    /// Dropped.
    Drop(DropReason),
}

macro_rules! reasons {
    ($(#[$attr:meta])* $name:ident { $($variant:ident => $word:literal, $message:literal;)+ }) => {
        $(#[$attr])*
        #[repr(u8)]
        #[derive(Clone, Copy, Debug, Eq, PartialEq)]
        pub enum $name {
            $(#[doc = $message] $variant,)+
        }

        impl $name {
            /// Every reason, in the order of its number.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The stable word for scripts.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }

            /// What to tell a person.
            pub const fn message(self) -> &'static str {
                match self { $(Self::$variant => $message,)+ }
            }
        }
    };
}

reasons! {
    /// Why a packet was dropped.
    DropReason {
        Malformed => "malformed", "headers are cut short or contradict each other";
        UnsupportedEtherType => "unsupported_ether_type", "neither IPv4, IPv6 nor ARP";
        FragmentWithoutFirst => "fragment_without_first", "a fragment whose first one was not seen";
        UnknownInterface => "unknown_interface", "the interface is not one of this instance";
        SourceMac => "source_mac", "the source MAC is not the container's";
        SourceAddress => "source_address", "the source address is not the container's";
        ArpSender => "arp_sender", "the ARP sender is not the container";
        NeighbourTarget => "neighbour_target", "the advertised IPv6 address is not the container's";
        RouterImpersonation => "router_impersonation", "a container sent a router advertisement, a redirect or a DHCP server's packet";
        MartianSource => "martian_source", "a packet from outside has a source address that can't be there";
        IsolatedNetwork => "isolated_network", "containers of different networks don't reach each other";
        IccDisabled => "icc_disabled", "the network has icc = false";
        InternalNetwork => "internal_network", "the network is internal";
        DirectAccess => "direct_access", "container addresses are not reachable from outside";
        NoEndpoint => "no_endpoint", "no container has this address";
        VipPortClosed => "vip_port_closed", "the virtual IP has no such service port";
        NoBackend => "no_backend", "the service has no backend";
        NoFlow => "no_flow", "a TCP segment without SYN belongs to no known connection";
        FlowEnded => "flow_ended", "the published port, service or container of this flow is gone, or policy changed";
        ConntrackFull => "conntrack_full", "the connection table is full";
        TupleTaken => "tuple_taken", "another flow has the same addresses and ports";
        PortsExhausted => "ports_exhausted", "no free source port for masquerading";
        NoSourceAddress => "no_source_address", "the way out has no address to masquerade with";
        NoRoute => "no_route", "the host has no route to the destination";
        WayOutNotHooked => "way_out_not_hooked", "the route leaves by an interface that this instance does not hook";
        TtlExceeded => "ttl_exceeded", "TTL or hop limit ran out";
        TooBig => "too_big", "larger than the container's MTU";
        NotTranslatable => "not_translatable", "the translation of this packet can't be written";
        UnannouncedPort => "unannounced_port", "a frame from a bridge port that is not ours";
        UntranslatedSource => "untranslated_source", "a container's packet would have left with its own address";
    }
}

reasons! {
    /// Why a packet took the host's stack instead of the short way.
    StackReason {
        TooBig => "too_big", "larger than the way's MTU: the stack fragments it or says so";
        TtlExceeded => "ttl_exceeded", "TTL or hop limit runs out: the stack says so";
        NotUnderstood => "not_understood", "not for a container, and left to the host";
    }
}

/// How many counters one hook has.
pub const COUNTERS_PER_HOOK: u32 = (DropReason::ALL.len() + StackReason::ALL.len()) as u32;

/// How many counters there are.
pub const COUNTERS: u32 = Hook::ALL.len() as u32 * COUNTERS_PER_HOOK;

/// The index of a drop's counter.
#[inline(always)]
pub const fn drop_counter(hook: Hook, reason: DropReason) -> u32 {
    hook as u32 * COUNTERS_PER_HOOK + reason as u32
}

/// The index of the counter of a way through the stack.
#[inline(always)]
pub const fn stack_counter(hook: Hook, reason: StackReason) -> u32 {
    hook as u32 * COUNTERS_PER_HOOK + DropReason::ALL.len() as u32 + reason as u32
}

/// One counter, of one CPU.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, bytemuck::Pod, bytemuck::Zeroable)]
pub struct Counter {
    /// Packets.
    pub packets: u64,
    /// Bytes, with link-layer headers.
    pub bytes: u64,
}
