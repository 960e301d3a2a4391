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
    /// A socket of the host's connects, IPv4.
    Connect4 = 5,
    /// A socket of the host's connects, IPv6.
    Connect6 = 6,
    /// A socket of the host's sends a datagram to an address that it names, IPv4.
    Sendmsg4 = 7,
    /// As [`Hook::Sendmsg4`], IPv6.
    Sendmsg6 = 8,
    /// A socket of the host's learns who sent it a datagram, IPv4.
    Recvmsg4 = 9,
    /// As [`Hook::Recvmsg4`], for sockets of IPv6.
    Recvmsg6 = 10,
    /// A socket of the host's asks whom it is connected to, IPv4.
    Getpeername4 = 11,
    /// As [`Hook::Getpeername4`], for sockets of IPv6.
    Getpeername6 = 12,
    /// The loopback interface, egress.
    FromLocal = 13,
}

/// What a hook hangs on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Seat {
    /// An interface.
    Interface,
    /// The root cgroup, and so the sockets of every process.
    Cgroup,
}

impl Hook {
    /// Every hook, in the order of its number.
    pub const ALL: [Self; 14] = [
        Self::FromContainer,
        Self::ToContainer,
        Self::FromNetdev,
        Self::ToNetdev,
        Self::FromBridge,
        Self::Connect4,
        Self::Connect6,
        Self::Sendmsg4,
        Self::Sendmsg6,
        Self::Recvmsg4,
        Self::Recvmsg6,
        Self::Getpeername4,
        Self::Getpeername6,
        Self::FromLocal,
    ];

    /// The hooks at sockets, in the order in which they are attached: what answers stand for what
    /// was asked comes before what asks.
    pub const AT_SOCKETS: [Self; 8] = [
        Self::Recvmsg4,
        Self::Recvmsg6,
        Self::Getpeername4,
        Self::Getpeername6,
        Self::Connect4,
        Self::Connect6,
        Self::Sendmsg4,
        Self::Sendmsg6,
    ];

    /// What it hangs on.
    pub const fn seat(self) -> Seat {
        match self {
            Self::FromContainer
            | Self::ToContainer
            | Self::FromNetdev
            | Self::ToNetdev
            | Self::FromBridge
            | Self::FromLocal => Seat::Interface,
            Self::Connect4
            | Self::Connect6
            | Self::Sendmsg4
            | Self::Sendmsg6
            | Self::Recvmsg4
            | Self::Recvmsg6
            | Self::Getpeername4
            | Self::Getpeername6 => Seat::Cgroup,
        }
    }

    /// The name of the hook's program.
    pub const fn name(self) -> &'static str {
        match self {
            Self::FromContainer => "from_container",
            Self::ToContainer => "to_container",
            Self::FromNetdev => "from_netdev",
            Self::ToNetdev => "to_netdev",
            Self::FromBridge => "from_bridge",
            Self::Connect4 => "connect4",
            Self::Connect6 => "connect6",
            Self::Sendmsg4 => "sendmsg4",
            Self::Sendmsg6 => "sendmsg6",
            Self::Recvmsg4 => "recvmsg4",
            Self::Recvmsg6 => "recvmsg6",
            Self::Getpeername4 => "getpeername4",
            Self::Getpeername6 => "getpeername6",
            Self::FromLocal => "from_local",
        }
    }
}

/// How a packet leaves a hook, in one word.
///
/// An enum with a payload would leave the payload of the other variants undefined, and the verifier
/// takes whatever register a compiler picks for that at its word.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Verdict(u64);

/// What a [`Verdict`] is about.
#[repr(u8)]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// Not ours, or allowed as it is: the next program, then the stack or the wire.
    Pass = 0,
    /// On to the host's stack, marked as allowed.
    ToHost = 1,
    /// As [`Outcome::ToHost`] because the short way can't take it; payload: a [`StackReason`].
    Stack = 2,
    /// Into the container behind a veth; payload: the ifindex of its host side.
    Container = 3,
    /// A flow is drafted; payload: how to commit it.
    Commit = 4,
    /// An ICMP error about some flow, which is to be found.
    Related = 5,
    /// Dropped; payload: a [`DropReason`].
    Drop = 6,
    /// To a process of the host that talks by the loopback interface; payload: its ifindex.
    Local = 7,
    /// As [`Outcome::ToHost`], past the bridge by which it would go; payload: the bridge's ifindex.
    PastBridge = 8,
}

impl Verdict {
    /// [`Outcome::Pass`].
    pub const PASS: Self = Self::new(Outcome::Pass, 0);
    /// [`Outcome::ToHost`].
    pub const TO_HOST: Self = Self::new(Outcome::ToHost, 0);
    /// [`Outcome::Related`].
    pub const RELATED: Self = Self::new(Outcome::Related, 0);

    #[inline(always)]
    const fn new(outcome: Outcome, payload: u32) -> Self {
        Self((outcome as u64) << 32 | payload as u64)
    }

    /// [`Outcome::Stack`].
    #[inline(always)]
    pub const fn stack(reason: StackReason) -> Self {
        Self::new(Outcome::Stack, reason as u32)
    }

    /// [`Outcome::Container`].
    #[inline(always)]
    pub const fn container(ifindex: u32) -> Self {
        Self::new(Outcome::Container, ifindex)
    }

    /// [`Outcome::Local`].
    #[inline(always)]
    pub const fn local(ifindex: u32) -> Self {
        Self::new(Outcome::Local, ifindex)
    }

    /// [`Outcome::PastBridge`].
    #[inline(always)]
    pub const fn past_bridge(ifindex: u32) -> Self {
        Self::new(Outcome::PastBridge, ifindex)
    }

    /// [`Outcome::Commit`].
    #[inline(always)]
    pub const fn commit(how: u32) -> Self {
        Self::new(Outcome::Commit, how)
    }

    /// [`Outcome::Drop`].
    #[inline(always)]
    pub const fn drop(reason: DropReason) -> Self {
        Self::new(Outcome::Drop, reason as u32)
    }

    /// What it is about.
    #[inline(always)]
    pub const fn outcome(self) -> Outcome {
        match (self.0 >> 32) as u8 {
            0 => Outcome::Pass,
            1 => Outcome::ToHost,
            2 => Outcome::Stack,
            3 => Outcome::Container,
            4 => Outcome::Commit,
            5 => Outcome::Related,
            7 => Outcome::Local,
            8 => Outcome::PastBridge,
            _ => Outcome::Drop,
        }
    }

    /// Its payload.
    #[inline(always)]
    pub const fn payload(self) -> u32 {
        self.0 as u32
    }
}

impl From<DropReason> for Verdict {
    #[inline(always)]
    fn from(reason: DropReason) -> Self {
        Self::drop(reason)
    }
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
        GroupFrame => "group_frame", "a frame to everybody with a packet to one address";
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
        SourceMoved => "source_moved", "the way out of a masqueraded flow has another source address now";
        ConntrackFull => "conntrack_full", "the connection table is full";
        TupleTaken => "tuple_taken", "another flow has the same addresses and ports";
        PortsExhausted => "ports_exhausted", "no free source port for masquerading";
        NoSourceAddress => "no_source_address", "the way out has no address to masquerade with";
        NoRoute => "no_route", "the host has no route to the destination";
        ForwardingOff => "forwarding_off", "forwarding is off on the network's bridge";
        WayOutNotHooked => "way_out_not_hooked", "the route leaves by an interface that this instance does not hook";
        TtlExceeded => "ttl_exceeded", "TTL or hop limit ran out";
        TooBig => "too_big", "larger than the way's MTU, and the sender can't be told";
        NotTranslatable => "not_translatable", "the translation of this packet can't be written";
        UnannouncedPort => "unannounced_port", "a frame from a bridge port that is not ours";
        UntranslatedSource => "untranslated_source", "a container's packet would have left with its own address";
        SourceDenied => "source_denied", "the published port does not answer this source";
        SourceRouted => "source_routed", "the packet itself says by which routers it wants to go";
    }
}

reasons! {
    /// Why a packet did not take the short way, though it was not dropped for that.
    StackReason {
        TooBig => "too_big", "larger than the way's MTU: its sender was told, or the stack is to cut it";
        TtlExceeded => "ttl_exceeded", "TTL or hop limit ran out: its sender was told";
        Xfrm => "xfrm", "the host has IPsec policies, which only its stack knows";
        NotUnderstood => "not_understood", "neither for a container nor from one, and left to the host";
    }
}

/// How many counters one hook has.
pub const COUNTERS_PER_HOOK: u32 = (DropReason::ALL.len() + StackReason::ALL.len()) as u32;

/// How many counters there are.
pub const COUNTERS: u32 = Hook::ALL.len() as u32 * COUNTERS_PER_HOOK;

/// The index of a drop's counter.
#[inline(always)]
pub const fn drop_counter(hook: Hook, reason: DropReason) -> u32 {
    drop_counter_of(hook, reason as u32)
}

/// As [`drop_counter`], by the reason's number.
#[inline(always)]
pub const fn drop_counter_of(hook: Hook, reason: u32) -> u32 {
    hook as u32 * COUNTERS_PER_HOOK + reason
}

/// The index of the counter of a way through the stack.
#[inline(always)]
pub const fn stack_counter(hook: Hook, reason: StackReason) -> u32 {
    stack_counter_of(hook, reason as u32)
}

/// As [`stack_counter`], by the reason's number.
#[inline(always)]
pub const fn stack_counter_of(hook: Hook, reason: u32) -> u32 {
    hook as u32 * COUNTERS_PER_HOOK + DropReason::ALL.len() as u32 + reason
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

#[cfg(test)]
mod tests;
