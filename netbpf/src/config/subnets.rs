//! Reads `subnets` and `ip_range` of a `[[network]]`.

use ipnet::IpNet;
use toml::{Spanned, de::DeValue};

use super::{
    findings::{At, Findings},
    table::Table,
    values,
};
use crate::model::Family;

/// Whether the network leaves its subnets to be chosen.
pub(super) fn are_chosen(table: &Table<'_, '_>) -> bool {
    table.get("subnets").is_none_or(|value| {
        let list = value.get_ref().as_array();
        list.is_some_and(|list| list.is_empty())
    })
}

/// Reads the subnets: at most one a family; `None` when they can't be told.
pub(super) fn read(table: &Table<'_, '_>, findings: &mut Findings) -> Option<Vec<At<IpNet>>> {
    let texts = table.strings("subnets", findings)?;
    if texts.is_empty() {
        return None;
    }
    let mut subnets: Vec<At<IpNet>> = Vec::with_capacity(texts.len());
    let mut is_whole = true;
    for At { line, value } in texts {
        let subnet = match values::subnet(value) {
            Ok(subnet) => subnet,
            Err(why) => {
                table.error(line, format!("subnet {value:?} {why}"), findings);
                is_whole = false;
                continue;
            }
        };
        if let Some(other) = subnets
            .iter()
            .find(|other| same_family(other.value, subnet))
        {
            let family = if subnet.addr().is_ipv4() {
                "IPv4"
            } else {
                "IPv6"
            };
            let what = format!(
                "subnet {subnet} is a second {family} subnet, beside {}",
                other.value
            );
            table.error(line, what, findings);
            is_whole = false;
            continue;
        }
        subnets.push(At {
            line,
            value: subnet,
        });
    }
    is_whole.then_some(subnets)
}

fn same_family(one: IpNet, other: IpNet) -> bool {
    Family::of_net(one) == Family::of_net(other)
}

/// Reads `ip_range`, a string or a list: at most one a family, each inside the subnet of its family.
pub(super) fn read_ranges(
    table: &Table<'_, '_>,
    subnets: Option<&[At<IpNet>]>,
    findings: &mut Findings,
) -> Vec<At<IpNet>> {
    let texts = match table.get("ip_range").map(Spanned::get_ref) {
        None => return Vec::new(),
        Some(DeValue::String(_)) => table.string("ip_range", findings).into_iter().collect(),
        Some(_) => table.strings("ip_range", findings).unwrap_or_default(),
    };
    let mut ranges: Vec<At<IpNet>> = Vec::with_capacity(texts.len());
    for At { line, value } in texts {
        match range_in(value, subnets, are_chosen(table), &ranges) {
            Ok(value) => ranges.push(At { line, value }),
            Err(why) => table.error(line, format!("ip_range {value:?} {why}"), findings),
        }
    }
    ranges
}

fn range_in(
    text: &str,
    subnets: Option<&[At<IpNet>]>,
    are_subnets_chosen: bool,
    ranges: &[At<IpNet>],
) -> Result<IpNet, String> {
    let range: IpNet = text
        .parse()
        .map_err(|_| "is not a range in CIDR notation".to_owned())?;
    if range.trunc() != range {
        return Err(format!("has host bits set; the range is {}", range.trunc()));
    }
    if are_subnets_chosen {
        return Err("needs a subnet that it lies in".to_owned());
    }
    if let Some(other) = ranges.iter().find(|other| same_family(other.value, range)) {
        let family = Family::of_net(range).name();
        return Err(format!(
            "is a second {family} range, beside {}",
            other.value
        ));
    }
    // Nothing can be said where the subnets are wrong themselves.
    let is_inside = subnets.is_none_or(|subnets| {
        let mut all = subnets.iter();
        all.any(|subnet| subnet.value.contains(&range))
    });
    if !is_inside {
        return Err("is outside the subnets".to_owned());
    }
    Ok(range)
}
