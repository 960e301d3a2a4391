//! A table of mistakes and the exact words about them.

use super::{GOOD, errors_of, good};
use crate::config::load;

/// Each piece of a document and all that is wrong with it.
const MISTAKES: &[(&str, &[&str])] = &[
    // The document.
    ("[host", &["t.toml:1: unclosed table, expected `]`"]),
    (
        "a = 1\nb = 2",
        &["t.toml:1: unknown key \"a\"", "t.toml:2: unknown key \"b\""],
    ),
    (
        "host = 1",
        &["t.toml:1: host must be a table, not an integer"],
    ),
    (
        "network = 1",
        &["t.toml:1: network must be a list, not an integer"],
    ),
    (
        "network = [1]",
        &["t.toml:1: network 1 must be a table, not an integer"],
    ),
    (
        "[metrics]\nlisten = \"127.0.0.1:9723\"",
        &["t.toml:2: metrics: listen is not supported yet"],
    ),
    // [host]
    (
        "[host]\nuplink = []",
        &["t.toml:2: host: unknown key \"uplink\""],
    ),
    (
        "[host]\nuplinks = \"eth0\"",
        &["t.toml:2: host: uplinks must be a list, not a string"],
    ),
    (
        "[host]\nuplinks = [1]",
        &["t.toml:2: host: uplinks: each must be a string, not an integer"],
    ),
    (
        "[host]\nuplinks = [\n\"eth0\",\n\"a/b\",\n\"eth0\"]",
        &[
            "t.toml:4: host: uplink \"a/b\" is not a name that an interface can have",
            "t.toml:5: host: uplink \"eth0\" is named twice",
        ],
    ),
    (
        "[host]\naddress_pools = [\n\"10.0.0.0/8\",\n{ base = \"10.0.0.1/8\", size = 16 },\n{ base = \"10.0.0.0/8\", size = 7 },\n{ base = \"fd00::/48\", size = 128 },\n{ size = 16, sise = 1 },\n{ base = \"fe80::/10\" }]",
        &[
            "t.toml:3: host: each of address_pools must be a table with base and size",
            "t.toml:4: host: address pool: base \"10.0.0.1/8\" has host bits set; the subnet is 10.0.0.0/8",
            "t.toml:5: host: address pool: size 7 is not in 8-31",
            "t.toml:6: host: address pool: size 128 is not in 48-127",
            "t.toml:7: host: address pool: unknown key \"sise\"",
            "t.toml:7: host: address pool: base is missing",
            "t.toml:8: host: address pool: base \"fe80::/10\" overlaps fe80::/10, the link-local range",
            "t.toml:8: host: address pool: size is missing",
        ],
    ),
    // [conntrack]
    (
        "[conntrack]\nmax_entries = 0\ntimeouts = { established = \"1w\", udp = \"0s\", icmp = \"366d\", dns = \"1s\" }",
        &[
            "t.toml:2: conntrack: max_entries 0 is not in 1-67108864",
            "t.toml:3: conntrack: timeouts: unknown key \"dns\"",
            "t.toml:3: conntrack: timeouts: established \"1w\" is not a duration: a number and one of ms, s, m, h, d, as in \"60s\"",
            "t.toml:3: conntrack: timeouts: udp \"0s\" is not longer than zero",
            "t.toml:3: conntrack: timeouts: icmp \"366d\" is longer than 365d",
        ],
    ),
    (
        "[conntrack]\nmax_entries = \"1\"",
        &["t.toml:2: conntrack: max_entries must be an integer, not a string"],
    ),
    // [[network]]
    ("[[network]]", &["t.toml:1: network 1: name is missing"]),
    (
        "[[network]]\nname = \"-a\"\nsubnets = [\"10.0.0.0/24\"]",
        &[
            "t.toml:2: network \"-a\": name \"-a\" is not 1-63 letters, digits, \"_\", \".\" or \"-\", starting with a letter or digit",
        ],
    ),
    (
        "[[network]]\nname = \"a\"\nsubnets = []\ngateways = [\"10.0.0.1\"]\nip_range = \"10.0.0.0/25\"\nmtu = 1279\n[[container]]\nname = \"c\"\nnetworks = [{ name = \"a\", ipv4 = \"10.0.0.5\" }]",
        &[
            "t.toml:4: network \"a\": gateway 10.0.0.1 needs a subnet that it lies in",
            "t.toml:5: network \"a\": ip_range \"10.0.0.0/25\" needs a subnet that it lies in",
            "t.toml:6: network \"a\": mtu 1279 is below 1280, the least that IPv6 needs",
            "t.toml:9: container \"c\": address 10.0.0.5 needs network \"a\" to name its subnets",
        ],
    ),
    (
        "[[network]]\nname = \"a\"\nsubnets = [\"10.0.0.0/24\"]\nip_range = [\"10.0.0.0/25\",\n\"10.0.0.128/25\",\n\"10.0.0.1/25\",\n\"fd00::/80\", \"x\"]",
        &[
            "t.toml:5: network \"a\": ip_range \"10.0.0.128/25\" is a second IPv4 range, beside 10.0.0.0/25",
            "t.toml:6: network \"a\": ip_range \"10.0.0.1/25\" has host bits set; the range is 10.0.0.0/25",
            "t.toml:7: network \"a\": ip_range \"fd00::/80\" is outside the subnets",
            "t.toml:7: network \"a\": ip_range \"x\" is not a range in CIDR notation",
        ],
    ),
    (
        "[[network]]\nname = \"a\"\nsubnets = [\"10.0.0.0\"]",
        &["t.toml:3: network \"a\": subnet \"10.0.0.0\" is not a subnet in CIDR notation"],
    ),
    (
        "[[network]]\nname = \"a\"\nsubnets = [\"10.0.0.1/24\"]",
        &[
            "t.toml:3: network \"a\": subnet \"10.0.0.1/24\" has host bits set; the subnet is 10.0.0.0/24",
        ],
    ),
    (
        "[[network]]\nname = \"a\"\nsubnets = [\"10.0.0.1/32\", \"fd00::1/128\"]",
        &[
            "t.toml:3: network \"a\": subnet \"10.0.0.1/32\" has no room for a gateway and a container",
            "t.toml:3: network \"a\": subnet \"fd00::1/128\" has no room for a gateway and a container",
        ],
    ),
    (
        "[[network]]\nname = \"a\"\nsubnets = [\"127.1.0.0/16\", \"ff05::/16\"]",
        &[
            "t.toml:3: network \"a\": subnet \"127.1.0.0/16\" overlaps 127.0.0.0/8, the loopback range",
            "t.toml:3: network \"a\": subnet \"ff05::/16\" overlaps ff00::/8, the multicast range",
        ],
    ),
    (
        "[[network]]\nname = \"a\"\nsubnets = [\"169.254.7.0/24\", \"fe80::/64\"]",
        &[
            "t.toml:3: network \"a\": subnet \"169.254.7.0/24\" overlaps 169.254.0.0/16, the link-local range",
            "t.toml:3: network \"a\": subnet \"fe80::/64\" overlaps fe80::/10, the link-local range",
        ],
    ),
    (
        "[[network]]\nname = \"a\"\nsubnets = [\"0.0.0.0/0\", \"::/64\", \"::ffff:0:0/96\"]",
        &[
            "t.toml:3: network \"a\": subnet \"0.0.0.0/0\" overlaps 0.0.0.0/8, \"this network\"",
            "t.toml:3: network \"a\": subnet \"::/64\" overlaps ::/80, the unspecified, loopback and IPv4-mapped range",
            "t.toml:3: network \"a\": subnet \"::ffff:0:0/96\" overlaps ::/80, the unspecified, loopback and IPv4-mapped range",
        ],
    ),
    (
        "[[network]]\nname = \"a\"\nsubnets = [\"10.0.0.0/24\", \"10.0.1.0/24\"]",
        &[
            "t.toml:3: network \"a\": subnet 10.0.1.0/24 is a second IPv4 subnet, beside 10.0.0.0/24",
        ],
    ),
    (
        "[[network]]\nname = \"a\"\nsubnets = [\"10.0.0.0/16\"]\n[[network]]\nname = \"b\"\nsubnets = [\"10.0.7.0/24\"]",
        &["t.toml:6: network \"b\": subnet 10.0.7.0/24 overlaps 10.0.0.0/16 of network \"a\""],
    ),
    (
        "[[network]]\nname = \"a\"\nsubnets = [\"10.0.0.0/24\"]\ngateways = [\"10.0.1.1\", \"10.0.0.0\", \"10.0.0.255\", \"x\"]",
        &[
            "t.toml:4: network \"a\": gateway \"x\" is not an IP address",
            "t.toml:4: network \"a\": gateway 10.0.1.1 is outside its subnets",
            "t.toml:4: network \"a\": gateway 10.0.0.0 is the network address of 10.0.0.0/24",
            "t.toml:4: network \"a\": gateway 10.0.0.255 is the broadcast address of 10.0.0.0/24",
            "t.toml:4: network \"a\": gateway 10.0.0.255 is a second one for 10.0.0.0/24, beside 10.0.0.0",
        ],
    ),
    (
        "[[network]]\nname = \"a\"\nsubnets = [\"10.0.0.0/24\"]\nmtu = 67",
        &["t.toml:4: network \"a\": mtu 67 is not in 68-65535"],
    ),
    (
        "[[network]]\nname = \"a\"\nsubnets = [\"fd00:1::/64\"]\nmtu = 1279",
        &["t.toml:4: network \"a\": mtu 1279 is below 1280, the least that IPv6 needs"],
    ),
    (
        "[[network]]\nname = \"a\"\nsubnets = [\"10.0.0.0/24\"]\nbridge = \"sixteen-bytes-xx\"\nicc = 1",
        &[
            "t.toml:4: network \"a\": bridge \"sixteen-bytes-xx\" is longer than 15 bytes",
            "t.toml:5: network \"a\": icc must be a boolean, not an integer",
        ],
    ),
    (
        "[host]\nuplinks = [\"nb-b\"]\n[[network]]\nname = \"a\"\nbridge = \"br0\"\nsubnets = [\"10.0.0.0/24\"]\n[[network]]\nname = \"b\"\nsubnets = [\"10.0.1.0/24\"]\n[[network]]\nname = \"c\"\nbridge = \"br0\"\nsubnets = [\"10.0.2.0/24\"]",
        &[
            "t.toml:8: network \"b\": bridge \"nb-b\" is already an uplink",
            "t.toml:12: network \"c\": bridge \"br0\" is already the bridge of network \"a\"",
        ],
    ),
    (
        "[[network]]\nname = \"a\"\nsubnets = [\"10.0.0.0/24\"]\ndriver = \"macvlan\"\nip_range = \"10.0.0.0/25\"\ngateway_mode = \"bridged\"\nhost_binding = \"0.0.0.256\"\ntrusted_interfaces = [\"eth/1\"]\ntrusted_sources = [\"10.1.0.1/16\", \"x\", \"10.2.0.1\"]\ndns = true",
        &[
            "t.toml:4: network \"a\": driver \"macvlan\" is unknown; known are: bridge",
            "t.toml:6: network \"a\": gateway_mode \"bridged\" is none of nat, nat-unprotected, routed, isolated",
            "t.toml:7: network \"a\": host_binding \"0.0.0.256\" is not an IP address",
            "t.toml:8: network \"a\": trusted interface \"eth/1\" is not a name that an interface can have",
            "t.toml:9: network \"a\": trusted source \"10.1.0.1/16\" has host bits; the prefix is 10.1.0.0/16",
            "t.toml:9: network \"a\": trusted source \"x\" is not an address or a prefix",
            "t.toml:10: network \"a\": unknown key \"dns\"",
        ],
    ),
    (
        "[[network]]\nname = \"a\"\nsubnets = [\"10.0.0.0/24\"]\ngateway_mode = { ipv4 = \"isolated\", v6 = \"nat\" }\ngateways = [\"10.0.0.1\"]",
        &[
            "t.toml:2: network \"a\": gateway_mode isolated needs internal = true",
            "t.toml:4: network \"a\": gateway_mode: unknown key \"v6\"",
            "t.toml:5: network \"a\": gateway 10.0.0.1 can't be: in IPv4 the network is isolated",
        ],
    ),
    (
        "[[network]]\nname = \"a\"\nsubnets = [\"10.0.0.0/24\"]\n[[network]]\nname = \"a\"\nbridge = \"br1\"\nsubnets = [\"10.0.1.0/24\"]",
        &["t.toml:5: network \"a\": name is already used on line 2"],
    ),
];

/// As [`MISTAKES`], but each piece stands after [`GOOD`], whose lines it continues.
const MISTAKES_BESIDE: &[(&str, &[&str])] = &[
    // [[container]]
    (
        "[[container]]",
        &[
            "t.toml:23: container 3: name is missing",
            "t.toml:23: container 3: networks is missing",
        ],
    ),
    (
        "[[container]]\nname = \"c\"\nnetworks = []",
        &["t.toml:25: container \"c\": networks is empty"],
    ),
    (
        "[[container]]\nname = \"c\"\nnetworks = [\"front\"]",
        &["t.toml:25: container \"c\": each of networks must be a table with a name"],
    ),
    (
        "[[container]]\nname = \"c\"\nnetworks = [{ name = \"front\" },\n{ name = \"front\" }]",
        &["t.toml:26: container \"c\": network \"front\" is there twice"],
    ),
    (
        "[[network]]\nname = \"back\"\nsubnets = [\"10.0.0.0/24\"]\n[[container]]\nname = \"c\"\nnetworks = [{ name = \"front\", interface = \"net0\" },\n{ name = \"back\", interface = \"net0\" }]",
        &["t.toml:29: container \"c\": interface \"net0\" is there twice"],
    ),
    (
        "[[container]]\nname = \"c\"\nnetworks = [{ name = \"bak\" }]",
        &["t.toml:25: container \"c\": there is no network \"bak\""],
    ),
    (
        "[[container]]\nname = \"c\"\nnetworks = [{ name = \"front\", ipv4 = \"fd00:28::7\", ipv6 = \"10.0.0.1\", mac = \"02:42\", interface = \"a b\", alias = [], aliases = [\"www\", \"www\", \"a b\"], gw_priority = 3000000000 }]",
        &[
            "t.toml:25: container \"c\": network \"front\": unknown key \"alias\"",
            "t.toml:25: container \"c\": network \"front\": ipv4 \"fd00:28::7\" is not an IPv4 address",
            "t.toml:25: container \"c\": network \"front\": ipv6 \"10.0.0.1\" is not an IPv6 address",
            "t.toml:25: container \"c\": network \"front\": mac \"02:42\" is not a MAC address",
            "t.toml:25: container \"c\": network \"front\": interface \"a b\" is not a name that an interface can have",
            "t.toml:25: container \"c\": network \"front\": alias \"www\" is there twice",
            "t.toml:25: container \"c\": network \"front\": alias \"a b\" is not 1-63 letters, digits, \"_\", \".\" or \"-\", starting with a letter or digit",
            "t.toml:25: container \"c\": network \"front\": gw_priority 3000000000 is not in -2147483648-2147483647",
        ],
    ),
    (
        "[[container]]\nname = \"c\"\nnetworks = [{ name = \"front\", mac = \"03:42:00:00:00:01\" }]",
        &[
            "t.toml:25: container \"c\": network \"front\": mac \"03:42:00:00:00:01\" is a multicast address",
        ],
    ),
    (
        "[[container]]\nname = \"c\"\nnetworks = [{ name = \"front\", ipv4 = \"172.28.1.1\" }]",
        &[
            "t.toml:25: container \"c\": address 172.28.1.1 is outside the subnets of network \"front\"",
        ],
    ),
    (
        "[[container]]\nname = \"c\"\nnetworks = [{ name = \"front\", ipv4 = \"172.28.0.0\", ipv6 = \"fd00:28::\" }]",
        &[
            "t.toml:25: container \"c\": address 172.28.0.0 is the network address of 172.28.0.0/24",
            "t.toml:25: container \"c\": address fd00:28:: is the network address of fd00:28::/64",
        ],
    ),
    (
        "[[container]]\nname = \"c\"\nnetworks = [{ name = \"front\", ipv4 = \"172.28.0.255\" }]",
        &[
            "t.toml:25: container \"c\": address 172.28.0.255 is the broadcast address of 172.28.0.0/24",
        ],
    ),
    (
        "[[container]]\nname = \"c\"\nnetworks = [{ name = \"front\", ipv4 = \"172.28.0.1\", ipv6 = \"fd00:28::1\" }]",
        &[
            "t.toml:25: container \"c\": address 172.28.0.1 is already taken by the gateway of network \"front\"",
            "t.toml:25: container \"c\": address fd00:28::1 is already taken by the gateway of network \"front\"",
        ],
    ),
    (
        "[[container]]\nname = \"c\"\nnetworks = [{ name = \"front\", ipv4 = \"172.28.0.10\" }]",
        &["t.toml:25: container \"c\": address 172.28.0.10 is already taken by container \"web\""],
    ),
    (
        "[[container]]\nname = \"c\"\nnetworks = [{ name = \"front\", ipv4 = \"172.28.0.100\" }]",
        &["t.toml:18: service \"api\": vip 172.28.0.100 is already taken by container \"c\""],
    ),
    (
        "[[container]]\nname = \"c\"\nnetworks = [{ name = \"front\", mac = \"02:00:00:00:00:01\" }]\n[[container]]\nname = \"d\"\nnetworks = [{ name = \"front\", mac = \"02:00:00:00:00:01\" }]",
        &["t.toml:28: container \"d\": network \"front\": mac is already taken by container \"c\""],
    ),
    (
        "[[container]]\nname = \"web\"\nnetns = \"/run/netns/web2\"\nnetworks = [{ name = \"front\" }]",
        &["t.toml:24: container \"web\": name is already used on line 7"],
    ),
    (
        "[[container]]\nname = \"c\"\nnetns = \"/run//netns/web\"\nnetworks = [{ name = \"front\" }]",
        &[
            "t.toml:25: container \"c\": netns \"/run/netns/web\" is already that of container \"web\"; one that shares it has mode = \"container:NAME\"",
        ],
    ),
    (
        "[[container]]\nname = \"c\"\nnetns = \"web\"\nnetworks = [{ name = \"front\" }]",
        &["t.toml:25: container \"c\": netns \"web\" is not an absolute path"],
    ),
    (
        "[[container]]\nname = \"c\"\nnetns = \"/run/../web\"\nnetworks = [{ name = \"front\" }]",
        &["t.toml:25: container \"c\": netns \"/run/../web\" must not contain \"..\""],
    ),
    (
        "[[container]]\nname = \"c\"\nmode = \"host\"\nsource_check = false\nexpose = [\"22\"]\npublish_all = true\nlinks = [\"db\"]\nnetworks = [{ name = \"front\" }]\nhostname = \"c\"",
        &[
            "t.toml:29: container \"c\": links can't be given with mode \"host\"",
            "t.toml:30: container \"c\": networks can't be given with mode \"host\"",
            "t.toml:31: container \"c\": unknown key \"hostname\"",
        ],
    ),
    (
        "[[container]]\nname = \"c\"\nmode = \"container:web\"\nnetworks = [{ name = \"front\" }]\npublish = [\"81:80\"]\nlinks = [\"web\"]\nnetns = \"/run/netns/x\"",
        &[
            "t.toml:26: container \"c\": networks can't be given with mode \"container:web\"",
            "t.toml:27: container \"c\": publish can't be given with mode \"container:web\"",
            "t.toml:28: container \"c\": links can't be given with mode \"container:web\"",
            "t.toml:29: container \"c\": netns can't be given with mode \"container:web\"",
        ],
    ),
    (
        "[[container]]\nname = \"c\"\nmode = \"none\"\nnetworks = [{ name = \"front\" }]\npublish = [\"81:80\"]",
        &[
            "t.toml:26: container \"c\": networks can't be given with mode \"none\"",
            "t.toml:27: container \"c\": publish can't be given with mode \"none\"",
        ],
    ),
    (
        "[[container]]\nname = \"c\"\nmode = \"container:\"",
        &[
            "t.toml:25: container \"c\": mode \"container:\" names \"\", which is not 1-63 letters, digits, \"_\", \".\" or \"-\", starting with a letter or digit",
        ],
    ),
    (
        "[[container]]\nname = \"c\"\nmode = \"container:nobody\"",
        &["t.toml:25: container \"c\": mode: there is no container \"nobody\""],
    ),
    (
        "[[container]]\nname = \"c\"\nmode = \"container:d\"\n[[container]]\nname = \"d\"\nmode = \"container:e\"\n[[container]]\nname = \"e\"\nmode = \"container:d\"",
        &[
            "t.toml:28: container \"d\": mode \"container:e\" leads back to it",
            "t.toml:31: container \"e\": mode \"container:d\" leads back to it",
        ],
    ),
    (
        "[[network]]\nname = \"back\"\nsubnets = [\"10.0.0.0/24\"]\n[[container]]\nname = \"c\"\nnetworks = [{ name = \"back\" }]\nlinks = [\"web\", \"nobody:x\", \"c\", \"db:\", \"db:web\"]",
        &[
            "t.toml:29: container \"c\": link \"db:\": alias \"\" is not 1-63 letters, digits, \"_\", \".\" or \"-\", starting with a letter or digit",
            "t.toml:29: container \"c\": link \"db:web\": alias \"web\" is there twice",
            "t.toml:29: container \"c\": link: it shares no network with container \"web\"",
            "t.toml:29: container \"c\": link: there is no container \"nobody\"",
            "t.toml:29: container \"c\": link: a container can't be linked to itself",
        ],
    ),
    (
        "[[container]]\nname = \"c\"\nmode = \"nat\"\nnetworks = [{ name = \"front\" }]",
        &[
            "t.toml:25: container \"c\": mode \"nat\" is unknown; known are: bridge, none, host, container:NAME",
        ],
    ),
    // publish; what its strings can get wrong is in `publish.rs`.
    (
        "[[container]]\nname = \"c\"\nnetworks = [{ name = \"front\" }]\npublish = [\n\"99999:80\",\n\"443\",\n{ port = \"2222:22\", ports = 1 },\n7]",
        &[
            "t.toml:27: container \"c\": publish \"99999:80\": host port 99999 is not in 1-65535",
            "t.toml:29: container \"c\": publish: unknown key \"ports\"",
            "t.toml:30: container \"c\": each of publish must be a string or a table",
        ],
    ),
    (
        "[[container]]\nname = \"c\"\nnetworks = [{ name = \"front\" }]\npublish = [\"8080:81\", \"198.51.100.1:8080:80\", \"[2001:db8::1]:8080:80\"]",
        &[
            "t.toml:26: container \"c\": publish \"8080:81\": Bind for 0.0.0.0:8080 failed: port is already allocated (by container \"web\")",
            "t.toml:26: container \"c\": publish \"198.51.100.1:8080:80\": Bind for 198.51.100.1:8080 failed: port is already allocated (by container \"web\")",
            "t.toml:26: container \"c\": publish \"[2001:db8::1]:8080:80\": Bind for [2001:db8::1]:8080 failed: port is already allocated (by container \"web\")",
        ],
    ),
    (
        "[[container]]\nname = \"c\"\nnetworks = [{ name = \"front\" }]\npublish = [\"198.51.100.1:81:80\", \"198.51.100.1:81:80\", \"81:80\"]",
        &[
            "t.toml:26: container \"c\": publish \"198.51.100.1:81:80\": Bind for 198.51.100.1:81 failed: port is already allocated (by container \"c\")",
            "t.toml:26: container \"c\": publish \"81:80\": Bind for 0.0.0.0:81 failed: port is already allocated (by container \"c\")",
        ],
    ),
    (
        "[[container]]\nname = \"c\"\nnetworks = [{ name = \"front\" }]\npublish = [\"172.28.0.100:81:80\"]",
        &[
            "t.toml:26: container \"c\": publish \"172.28.0.100:81:80\": host address is the vip of service \"api\"",
        ],
    ),
    (
        "[[network]]\nname = \"v4\"\nsubnets = [\"10.0.0.0/30\"]\n[[container]]\nname = \"c\"\nnetworks = [{ name = \"v4\", ipv6 = \"fd00::2\" }]\n",
        &["t.toml:28: container \"c\": address fd00::2 is outside the subnets of network \"v4\""],
    ),
    (
        "[[network]]\nname = \"v4\"\nsubnets = [\"10.0.0.0/30\"]\n[[container]]\nname = \"c\"\nnetworks = [{ name = \"v4\" }]\npublish = [\"[::]:81:80\"]\n",
        &["t.toml:29: container \"c\": publish \"[::]:81:80\": network \"v4\" has no such family"],
    ),
    (
        "[[network]]\nname = \"v4\"\nsubnets = [\"10.0.0.0/30\"]\n[[container]]\nname = \"c\"\nnetworks = [{ name = \"v4\" }]\n[[container]]\nname = \"d\"\nnetworks = [{ name = \"v4\" }]",
        &["t.toml:30: container \"d\": no address of 10.0.0.0/30 is free"],
    ),
    // [[service]]
    (
        "[[service]]\nname = \"s\"",
        &[
            "t.toml:23: service \"s\": network is missing",
            "t.toml:23: service \"s\": the default scheduler, \"maglev\", is not supported yet; scheduler must be \"random\"",
            "t.toml:23: service \"s\": ports is missing",
            "t.toml:23: service \"s\": backends is missing",
        ],
    ),
    (
        "[[service]]\nname = \"s\"\nnetwork = \"bak\"\nports = []\nbackends = [\"web\", {}, { container = \"web\", weight = 2, drain = true, port = 1 }, { container = \"web\" }]\nscheduler = \"maglev\"\naffinity = \"client-ip\"\naffinity_timeout = \"1h\"\nendpoint_mode = \"dnsrr\"\npublish = [\"8081:80\"]\nvips = []",
        &[
            "t.toml:23: service \"s\": ports is empty",
            "t.toml:25: service \"s\": there is no network \"bak\"",
            "t.toml:27: service \"s\": each of backends must be a table with a container",
            "t.toml:27: service \"s\": backend: container is missing",
            "t.toml:27: service \"s\": backend \"web\": unknown key \"port\"",
            "t.toml:27: service \"s\": backend \"web\": drain is not supported yet",
            "t.toml:27: service \"s\": backend \"web\": weight is not supported yet",
            "t.toml:27: service \"s\": backend \"web\" is there twice",
            "t.toml:28: service \"s\": scheduler \"maglev\" is not supported yet",
            "t.toml:29: service \"s\": affinity \"client-ip\" is not supported yet",
            "t.toml:30: service \"s\": affinity_timeout is not supported yet",
            "t.toml:31: service \"s\": endpoint_mode \"dnsrr\" is not supported yet",
            "t.toml:32: service \"s\": publish is not supported yet",
            "t.toml:33: service \"s\": unknown key \"vips\"",
        ],
    ),
    (
        "[[network]]\nname = \"back\"\nsubnets = [\"10.0.0.0/24\"]\n[[service]]\nname = \"s\"\nnetwork = \"back\"\nvip = [\"10.0.0.9\", \"10.0.0.8\", \"172.28.0.9\", \"fd00:28::9\"]\nports = [\"80:80\", \"80:81\", \"80:81/udp\", \"80\", \"0:80\", \"80-81:80\"]\nbackends = [{ container = \"web\" }, { container = \"nobody\" }]\nscheduler = \"fair\"",
        &[
            "t.toml:29: service \"s\": vip 10.0.0.8 is a second IPv4 address, beside 10.0.0.9",
            "t.toml:29: service \"s\": vip 172.28.0.9 is a second IPv4 address, beside 10.0.0.9",
            "t.toml:29: service \"s\": vip fd00:28::9 is outside the subnets of network \"back\"",
            "t.toml:30: service \"s\": port \"80:81\": service port 80 is there twice",
            "t.toml:30: service \"s\": port \"80\": is not SERVICE PORT:CONTAINER PORT[/tcp|udp]",
            "t.toml:30: service \"s\": port \"0:80\": service port 0 is not in 1-65535",
            "t.toml:30: service \"s\": port \"80-81:80\": port ranges are not supported yet",
            "t.toml:31: service \"s\": backend \"web\" is not in network \"back\"",
            "t.toml:31: service \"s\": backend \"nobody\": there is no such container",
            "t.toml:32: service \"s\": scheduler \"fair\" is unknown; known are: random, maglev, round-robin, least-connections",
        ],
    ),
    (
        "[[service]]\nname = \"s\"\nnetwork = \"front\"\nvip = \"172.28.0.100\"\nports = [\"80:80\"]\nbackends = []\nscheduler = \"random\"",
        &["t.toml:26: service \"s\": vip 172.28.0.100 is already taken by service \"api\""],
    ),
];

fn assert_errors(text: &str, expected: &[&str]) {
    let mut found = errors_of(text);
    let mut expected: Vec<String> = expected.iter().map(|&error| error.to_owned()).collect();
    // The order within a line is no promise.
    found.sort();
    expected.sort();
    assert_eq!(found, expected, "of:\n{text}");
}

#[test]
fn every_mistake_is_named_with_its_line() {
    for (text, expected) in MISTAKES {
        assert_errors(text, expected);
    }
}

#[test]
fn every_mistake_beside_good_entries_is_named_with_its_line() {
    for (text, expected) in MISTAKES_BESIDE {
        assert_errors(&format!("{GOOD}\n{text}"), expected);
    }
}

#[test]
fn errors_stand_in_the_order_of_lines() {
    let lines = errors_of("z = 1\na = 2\n[host]\nx = 1\n[[network]]\nname = \"-\"\n");
    let numbers: Vec<usize> = lines
        .iter()
        .map(|line| line.split(':').nth(1).unwrap().parse().unwrap())
        .collect();
    assert!(numbers.is_sorted(), "{lines:?}");
}

#[test]
fn empty_document_is_valid() {
    assert!(good("").warnings().is_empty());
    assert!(
        good("# nothing\n[host]\n[conntrack]\n[metrics]\n")
            .warnings()
            .is_empty()
    );
}

#[test]
fn defaults_of_later_keys_are_accepted() {
    good(
        r#"
[host]
ephemeral_ports = "49000-49900"
address_pools = [{ base = "172.16.0.0/12", size = 16 }, { base = "fd00:6e62::/48", size = 64 }]
[[network]]
name = "front"
driver = "bridge"
subnets = ["172.28.0.0/24"]
gateway_mode = "nat"
trusted_interfaces = []
trusted_sources = []
[[container]]
name = "web"
mode = "bridge"
source_check = true
networks = [{ name = "front", aliases = [], gw_priority = 0 }]
expose = []
publish_all = false
links = []
[[service]]
name = "api"
network = "front"
ports = ["80:8080"]
publish = []
backends = [{ container = "web", weight = 1, drain = false }]
scheduler = "random"
affinity = "none"
affinity_timeout = "3h"
endpoint_mode = "vip"
"#,
    );
}

#[test]
fn ports_that_do_not_meet_are_no_conflict() {
    good(
        r#"
[[network]]
name = "v4"
subnets = ["10.0.0.0/24"]
[[network]]
name = "v6"
subnets = ["fd00:1::/64"]
[[network]]
name = "inner"
subnets = ["10.0.1.0/24"]
internal = true
[[container]]
name = "a"
networks = [{ name = "v4" }]
publish = ["80:80", "80:80/udp", "198.51.100.1:81:80", "198.51.100.2:81:80"]
[[container]]
name = "b"
networks = [{ name = "v6" }]
publish = ["80:80", "81:80"]
[[container]]
name = "c"
networks = [{ name = "inner" }]
publish = ["80:80"]
"#,
    );
}

#[test]
fn publish_on_an_internal_network_is_warned_of() {
    let text = format!(
        "{}internal = true\n",
        "[[network]]\nname = \"a\"\nsubnets = [\"10.0.0.0/24\"]\n"
    ) + "[[container]]\nname = \"c\"\nnetworks = [{ name = \"a\" }]\npublish = [\"80-82:80-82\"]\n";
    assert_eq!(
        good(&text).warnings(),
        [
            "t.toml:8: container \"c\": publish \"80-82:80-82\" has no effect: network \"a\" is internal"
        ]
    );
}

#[test]
fn too_many_backends_are_refused() {
    use std::fmt::Write as _;
    let mut text = "[[network]]\nname = \"a\"\nsubnets = [\"10.0.0.0/16\"]\n".to_owned();
    let mut backends = String::new();
    for number in 0..129 {
        writeln!(
            text,
            "[[container]]\nname = \"c{number}\"\nnetworks = [{{ name = \"a\" }}]"
        )
        .unwrap();
        write!(backends, "{{ container = \"c{number}\" }},").unwrap();
    }
    let service =
        "[[service]]\nname = \"s\"\nnetwork = \"a\"\nports = [\"80:80\"]\nscheduler = \"random\"\n";
    let text = format!("{text}{service}backends = [{backends}]\n");
    assert_eq!(
        errors_of(&text),
        ["t.toml:396: service \"s\": 129 backends are more than 128"]
    );
}

#[test]
fn binary_junk_is_refused_and_never_panics() {
    for text in [
        "\0",
        "=",
        "[[",
        "a = [",
        "a.b.c = {",
        "\u{feff}[host]\nx",
        "[host]\r\n\r\nx = 1",
    ] {
        assert!(load("t.toml", text).is_err(), "{text:?}");
    }
}
