//! Names and MACs that follow from other names. Pure: the same on every machine and in every
//! release, for a later one must find what an earlier one made.

/// The longest interface name, in bytes.
pub const INTERFACE_NAME_MAX: usize = 15;

/// What a name must be, so that it continues the name in an error.
pub const RULE: &str =
    "is not 1-63 letters, digits, \"_\", \".\" or \"-\", starting with a letter or digit";

/// Whether this can name a network, a container, a service or an instance.
pub fn is_valid(name: &str) -> bool {
    let is_inner = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    (1..=63).contains(&name.len())
        && name.starts_with(|first: char| first.is_ascii_alphanumeric())
        && name.bytes().all(is_inner)
}

/// FNV-1a over the parts, each ended by a zero byte so that `["ab", "c"]` is not `["a", "bc"]`.
pub fn stable_hash(parts: &[&str]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in parts.iter().flat_map(|part| part.bytes().chain([0])) {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    // FNV's low bits are good and its high ones weak for short input: fold them together.
    hash ^ (hash >> 32)
}

/// A network's bridge when the document names none: `nb-<name>`, cut with a hash when longer than
/// an interface name can be.
pub fn default_bridge(network: &str) -> String {
    let name = format!("nb-{network}");
    if name.len() <= INTERFACE_NAME_MAX {
        return name;
    }
    // Names are ASCII, so that a cut never splits a character.
    let head: String = name.chars().take(8).collect();
    format!("{head}-{:06x}", stable_hash(&[network]) & 0xff_ffff)
}

/// The host side of a container's veth.
pub fn veth(instance: &str, container: &str, network: &str) -> String {
    format!(
        "nbv{:08x}",
        stable_hash(&[instance, container, network]) & 0xffff_ffff
    )
}

/// The fixed MAC of a network's bridge: locally administered, unicast.
pub fn bridge_mac(instance: &str, network: &str) -> [u8; 6] {
    local_mac(stable_hash(&["bridge", instance, network]))
}

/// The MAC that an adopted bridge gets when it has none. It never marks a bridge as ours.
pub fn adopted_bridge_mac(instance: &str, network: &str) -> [u8; 6] {
    local_mac(stable_hash(&["adopted", instance, network]))
}

/// The fixed MAC of the host side of a container's veth: how it is known again.
pub fn veth_mac(instance: &str, container: &str, network: &str) -> [u8; 6] {
    local_mac(stable_hash(&["veth", instance, container, network]))
}

/// The MAC of a container without IPv4 address; `attempt` counts those that were taken.
pub fn container_mac(container: &str, network: &str, attempt: u32) -> [u8; 6] {
    local_mac(stable_hash(&[
        "container",
        container,
        network,
        &attempt.to_string(),
    ]))
}

/// `02:…`: locally administered, unicast.
fn local_mac(hash: u64) -> [u8; 6] {
    let [_, _, _, a, b, c, d, e] = hash.to_be_bytes();
    [0x02, a, b, c, d, e]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_network_name_is_kept_in_the_bridge_name() {
        assert_eq!(default_bridge("front"), "nb-front");
        assert_eq!(default_bridge("twelve-chars"), "nb-twelve-chars");
    }

    #[test]
    fn long_network_name_is_cut_with_a_hash() {
        let one = default_bridge("a-rather-long-network-name-1");
        let two = default_bridge("a-rather-long-network-name-2");
        assert_eq!(one.len(), INTERFACE_NAME_MAX);
        assert!(one.starts_with("nb-a-rat-"), "{one}");
        assert_ne!(one, two);
    }

    #[test]
    fn hash_never_changes() {
        assert_eq!(veth("default", "web", "front"), "nbv594ae343");
        assert_ne!(stable_hash(&["ab", "c"]), stable_hash(&["a", "bc"]));
    }
}
