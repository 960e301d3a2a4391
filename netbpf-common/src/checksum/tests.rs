//! Incremental updates against full sums: one over bytes as RFC 1071 has it, and etherparse's.

use std::vec::Vec;

use etherparse::{IpNumber, Ipv4Header, TcpHeader, UdpHeader};
use proptest::prelude::*;

use super::*;
use crate::{
    arbitrary::{Draw, port},
    family::{Family, V4, V6},
    wire::Be16,
};

/// The checksum of whole 16-bit words, by the definition: RFC 1071, 1.
fn full(bytes: &[u8]) -> Be16 {
    let mut sum = 0_u32;
    for pair in bytes.chunks_exact(2) {
        sum += u32::from(pair[0]) << 8 | u32::from(pair[1]);
        if sum > 0xffff {
            sum = (sum & 0xffff) + 1;
        }
    }
    Be16::new(!(sum as u16))
}

/// The bytes as words in wire order, as a program loads them.
fn words(bytes: &[u8]) -> Vec<u32> {
    bytes
        .chunks_exact(4)
        .map(|word| u32::from_ne_bytes([word[0], word[1], word[2], word[3]]))
        .collect()
}

/// A port or any other 16-bit field as a word.
fn word(field: Be16) -> u32 {
    u32::from(field.0)
}

fn updated(check: Be16, old: &[u32], new: &[u32]) -> Be16 {
    Be16(update(check.0, difference(old, new)))
}

/// Source and destination address and port.
type Ends<F> = (<F as Family>::Addr, <F as Family>::Addr, Be16, Be16);

/// Bytes in which the corners of the ones' complement are common.
fn header() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![2 => Just(0), 2 => Just(0xff), 1 => any::<u8>()];
    (1..=15_usize).prop_flat_map(move |words| prop::collection::vec(byte.clone(), 4 * words))
}

/// A header before and after a change of any of its words.
fn change() -> impl Strategy<Value = (Vec<u8>, Vec<u8>)> {
    (header(), header()).prop_map(|(old, mut new)| {
        let kept = old.iter().skip(new.len());
        new.extend(kept);
        new.truncate(old.len());
        (old, new)
    })
}

proptest! {
    #[test]
    fn an_update_is_a_full_sum((old, new) in change()) {
        // No header is all zeroes; only there would an update give the other zero.
        prop_assume!(old.iter().any(|byte| *byte != 0) && new.iter().any(|byte| *byte != 0));
        prop_assert_eq!(updated(full(&old), &words(&old), &words(&new)), full(&new));
    }

    #[test]
    fn an_update_of_a_part_is_a_full_sum((old, part) in change(), first in 0..15_usize) {
        let first = 4 * (first % (old.len() / 4));
        let mut new = old.clone();
        new[first..].copy_from_slice(&part[first..]);
        prop_assume!(old.iter().any(|byte| *byte != 0) && new.iter().any(|byte| *byte != 0));
        let (before, after) = (words(&old[first..]), words(&new[first..]));
        prop_assert_eq!(updated(full(&old), &before, &after), full(&new));
    }

    #[test]
    fn an_update_back_gives_the_checksum_from_before((old, new) in change()) {
        prop_assume!(old.iter().any(|byte| *byte != 0));
        let (before, after) = (words(&old), words(&new));
        let there = updated(full(&old), &before, &after);
        prop_assert_eq!(updated(there, &after, &before), full(&old));
    }

    #[test]
    fn no_change_keeps_a_checksum(check in 0..0xffff_u16, old in header()) {
        let words = words(&old);
        prop_assert_eq!(update(check, 0), check);
        prop_assert_eq!(update(check, difference(&words, &words)), check);
    }

    #[test]
    fn two_differences_add_up_to_that_of_both(
        (a, b) in change(), (c, d) in change(), check: u16,
    ) {
        let (a, b, c, d) = (words(&a), words(&b), words(&c), words(&d));
        let both = difference(&[a.clone(), c.clone()].concat(), &[b.clone(), d.clone()].concat());
        let sum = add(difference(&a, &b), difference(&c, &d));
        // A sum of nothing but zeroes has no sign; any other is the same number.
        prop_assert_eq!(fold(sum) % 0xffff, fold(both) % 0xffff);
        prop_assert!(sum == 0 || both == 0 || update(check, sum) == update(check, both));
    }

    #[test]
    fn a_fold_is_the_sum_of_the_halves(sum: u32) {
        let mut halves = (sum & 0xffff) + (sum >> 16);
        if halves > 0xffff {
            halves -= 0xffff;
        }
        prop_assert_eq!(u32::from(fold(sum)), halves);
    }

    /// What a routed and translated packet of IPv4 gets.
    #[test]
    fn etherparse_agrees_on_ipv4_headers(
        src: [u8; 4], dst: [u8; 4], new_src in V4::addr(), new_dst in V4::addr(),
        ttl in 1..=u8::MAX, payload_len in 0..=1480_u16, protocol: u8, id: u16,
    ) {
        let protocol = IpNumber(protocol);
        let mut header = Ipv4Header::new(payload_len, ttl, protocol, src, dst)
            .expect("the payload fits");
        header.identification = id;
        let before = header.to_bytes();
        let check = Be16::new(header.calc_header_checksum());

        header.time_to_live = ttl - 1;
        (header.source, header.destination) = (new_src.to_wire(), new_dst.to_wire());
        let after = header.to_bytes();
        // TTL and protocol, without the checksum behind them; then the addresses.
        let old = [&[before[8], before[9], 0, 0], &before[12..20]].concat();
        let new = [&[after[8], after[9], 0, 0], &after[12..20]].concat();
        let expected = Be16::new(header.calc_header_checksum());
        prop_assert_eq!(updated(check, &words(&old), &words(&new)), expected);
    }

    #[test]
    fn etherparse_agrees_on_tcp_over_ipv6(
        old in (V6::addr(), V6::addr(), port(), port()),
        new in (V6::addr(), V6::addr(), port(), port()),
        payload in prop::collection::vec(any::<u8>(), 0..40),
    ) {
        let check = |(src, dst, src_port, dst_port): Ends<V6>| {
            TcpHeader::new(src_port.get(), dst_port.get(), 1, 1024)
                .calc_checksum_ipv6_raw(src.to_wire(), dst.to_wire(), &payload)
                .expect("the payload fits")
        };
        let diff = difference(&of_v6(old), &of_v6(new));
        prop_assert_eq!(Be16(update(Be16::new(check(old)).0, diff)), Be16::new(check(new)));
    }

    /// On the wire a zero UDP checksum means that there is none, and a sum that comes out as zero
    /// is sent as all ones (RFC 768): that last step is not [`update`]'s.
    #[test]
    fn etherparse_agrees_on_udp_over_ipv4_but_for_the_zero(
        old in (V4::addr(), V4::addr(), port(), port()),
        new in (V4::addr(), V4::addr(), port(), port()),
        payload in prop::collection::vec(any::<u8>(), 0..40),
    ) {
        let check = |(src, dst, src_port, dst_port): Ends<V4>| {
            UdpHeader::without_ipv4_checksum(src_port.get(), dst_port.get(), payload.len())
                .and_then(|header| {
                    header.calc_checksum_ipv4_raw(src.to_wire(), dst.to_wire(), &payload)
                })
                .expect("the payload fits")
        };
        let diff = difference(&of_v4(old), &of_v4(new));
        let seen = Be16(update(Be16::new(check(old)).0, diff));
        let sent = if seen.get() == 0 { 0xffff } else { seen.get() };
        prop_assert_eq!(sent, check(new));
    }
}

fn of_v4((src, dst, a, b): Ends<V4>) -> [u32; 4] {
    [src.0, dst.0, word(a), word(b)]
}

fn of_v6((src, dst, a, b): Ends<V6>) -> Vec<u32> {
    [&src.0[..], &dst.0, &[word(a), word(b)]].concat()
}

/// RFC 1624, 4: the older equation gives 0xffff here, which no sum of a header can be.
#[test]
fn the_rfcs_example_gives_zero() {
    let (old, new) = (Be16::new(0x5555), Be16::new(0x3285));
    let check = updated(Be16::new(0xdd2f), &[word(old)], &[word(new)]);
    assert_eq!(check, Be16::new(0x0000));
}

/// Fields around both zeroes of the ones' complement, before and after: an end system may compare
/// checksums instead of summing them up (RFC 1624, 5), so that the right zero matters.
#[test]
fn corners_of_the_ones_complement_hold() {
    let corners = [0x0000, 0x0001, 0x7fff, 0x8000, 0xfffe, 0xffff].map(Be16::new);
    for rest in [0x0001, 0x4500, 0xfffe, 0xffff].map(Be16::new) {
        for (old, new) in corners
            .into_iter()
            .flat_map(|old| corners.map(|new| (old, new)))
        {
            let header = |field: Be16| [rest.to_wire(), field.to_wire()].concat();
            let check = full(&header(old));
            assert_eq!(
                updated(check, &[word(old)], &[word(new)]),
                full(&header(new)),
                "{rest:04x?}: {old:04x?} to {new:04x?}"
            );
        }
    }
}

#[test]
fn nothing_added_to_nothing_is_nothing() {
    assert_eq!(difference(&[], &[]), 0);
    assert_eq!(add(0, 0), 0);
    assert_eq!(fold(0), 0);
    assert_eq!(fold(u32::MAX), 0xffff);
    assert_eq!(add(u32::MAX, u32::MAX), u32::MAX);
}

/// As many words as a translation of IPv6 changes, with each carry that there can be.
#[test]
fn the_largest_sums_do_not_overflow() {
    let (zeroes, ones) = ([0; 16], [u32::MAX; 16]);
    for (old, new) in [
        (zeroes, ones),
        (ones, zeroes),
        (zeroes, zeroes),
        (ones, ones),
    ] {
        // All of them are multiples of 0xffff: none changes a checksum.
        assert_eq!(update(0x1234, difference(&old, &new)), 0x1234);
    }
}

#[test]
fn a_carry_that_carries_again_is_not_lost() {
    // 0x1_ffff_ffff: its first fold is 0x1_0000_0000.
    assert_eq!(difference(&[], &[u32::MAX, u32::MAX, 1]), 1);
    assert_eq!(difference(&[0, 0], &[1]), 1);
    assert_eq!(fold(0xffff_0001), 1);
}
