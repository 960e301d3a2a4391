//! Docker's rules multiplied: the same rules as dockerd wrote for a published port, for more ports,
//! by `iptables-restore`.

use std::{
    collections::HashSet,
    io::Write as _,
    ops::Range,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use netbpf_tests::netns::Netns;

use super::{
    PORT, PUBLISHED,
    docker::{BY_DOCKERD, Backend},
};

/// Adds the rules of ports that are counted from the first one, in both families; what stands
/// already is not added again. dockerd 20.10 takes some rules of ports that lie side by side for
/// there when they are not, by ip6tables-legacy.
///
/// # Errors
///
/// What the programs say, and that there are no rules to multiply.
pub fn multiply(host: &Netns, backend: Backend, ports: Range<u16>) -> Result<()> {
    for family in FAMILIES {
        let saved = output(&mut host.command(backend.program(&format!("{family}-save"))))?;
        let more = more_rules(&saved, ports.clone());
        ensure!(!more.is_empty(), "dockerd wrote no rule to multiply");
        let more = without_those_of(&saved, &more);
        let mut restore = host.command(backend.program(&format!("{family}-restore")));
        feed(restore.arg("--noflush"), &more)?;
    }
    Ok(())
}

/// Rules as `iptables-save` prints them, of both families.
#[derive(Clone, Debug)]
pub struct Saved {
    backend: Backend,
    /// By [`FAMILIES`].
    texts: [String; 2],
}

/// The programs of the families.
const FAMILIES: [&str; 2] = ["iptables", "ip6tables"];

impl Saved {
    /// Those of a host.
    ///
    /// # Errors
    ///
    /// What the programs say.
    pub fn of(host: &Netns, backend: Backend) -> Result<Self> {
        let save =
            |family: &str| output(&mut host.command(backend.program(&format!("{family}-save"))));
        Ok(Self {
            backend,
            texts: [save(FAMILIES[0])?, save(FAMILIES[1])?],
        })
    }

    /// The same without what is about a published port.
    #[must_use]
    pub fn without_ports(&self) -> Self {
        let without = |text: &String| {
            let lines = text.lines().filter(|line| !line.contains(" --dport "));
            lines.flat_map(|line| [line, "\n"]).collect()
        };
        Self {
            texts: self.texts.each_ref().map(without),
            ..*self
        }
    }

    /// Replaces all rules of a host by these.
    ///
    /// # Errors
    ///
    /// What the programs say.
    pub fn restore(&self, host: &Netns) -> Result<()> {
        for (family, text) in FAMILIES.iter().zip(&self.texts) {
            let program = self.backend.program(&format!("{family}-restore"));
            feed(&mut host.command(program), text)?;
        }
        Ok(())
    }

    /// The commands, one for each rule, that change the rules of one port, which is counted from the
    /// first one.
    pub fn one_by_one(&self, host: &Netns, change: Change, port: u16) -> Vec<Command> {
        let mut commands = Vec::new();
        for (family, text) in FAMILIES.iter().zip(&self.texts) {
            let mut table = "filter";
            let more = more_rules(text, port..port + 1);
            for line in more.lines() {
                if let Some(name) = line.strip_prefix('*') {
                    table = name;
                } else if let Some(rule) = line.strip_prefix("-A ") {
                    let mut command = host.command(self.backend.program(family));
                    command.args(["--wait", "--table", table, change.option()]);
                    command.args(rule.split_whitespace());
                    commands.push(command);
                }
            }
        }
        commands
    }
}

/// What to do with a rule.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Change {
    /// Add it to the end of its chain.
    Add,
    /// Take it away.
    Remove,
}

impl Change {
    const fn option(self) -> &'static str {
        match self {
            Self::Add => "--append",
            Self::Remove => "--delete",
        }
    }
}

/// In the form that `iptables-save` has: the last rule about a port that each chain has, once more
/// for each port of the range. Nothing where there is no such rule.
fn more_rules(saved: &str, ports: Range<u16>) -> String {
    let mut text = String::new();
    let mut found = false;
    let mut lines = saved.lines().peekable();
    while let Some(line) = lines.next() {
        if line.starts_with('*') || line == "COMMIT" {
            text.push_str(line);
            text.push('\n');
            continue;
        }
        let Some(offset) = offset_of(line) else {
            continue;
        };
        let chain = chain_of(line);
        if lines
            .peek()
            .is_some_and(|next| offset_of(next).is_some() && chain_of(next) == chain)
        {
            continue;
        }
        found = true;
        for port in ports.clone() {
            text.push_str(&for_port(line, offset, port));
            text.push('\n');
        }
    }
    if found { text } else { String::new() }
}

fn without_those_of(saved: &str, more: &str) -> String {
    let there: HashSet<&str> = saved
        .lines()
        .filter(|line| line.starts_with("-A "))
        .collect();
    let lines = more.lines().filter(|line| !there.contains(line));
    lines.flat_map(|line| [line, "\n"]).collect()
}

/// Which published port a rule is about, counted from the first one.
fn offset_of(rule: &str) -> Option<u16> {
    let (_, rest) = rule.split_once(" --dport ")?;
    let port: u16 = rest.split_whitespace().next()?.parse().ok()?;
    [PUBLISHED, PORT]
        .into_iter()
        .filter_map(|first| port.checked_sub(first))
        .find(|offset| *offset < BY_DOCKERD)
}

fn chain_of(rule: &str) -> Option<&str> {
    rule.split_whitespace().nth(1)
}

fn for_port(rule: &str, from: u16, to: u16) -> String {
    let mut rule = rule.to_owned();
    for first in [PUBLISHED, PORT] {
        let (old, new) = (first + from, first + to);
        rule = rule
            .replace(&format!("--dport {old} "), &format!("--dport {new} "))
            .replace(&format!(":{old}"), &format!(":{new}"));
    }
    rule
}

/// What a program prints.
///
/// # Errors
///
/// What it says went wrong.
pub fn output(command: &mut Command) -> Result<String> {
    let output = command
        .output()
        .with_context(|| format!("failed to start {command:?}"))?;
    ensure!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn feed(command: &mut Command, text: &str) -> Result<()> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .with_context(|| format!("failed to start {command:?}"))?;
    let mut stdin = child.stdin.take().context("it has no input")?;
    stdin.write_all(text.as_bytes())?;
    drop(stdin);
    let status = child.wait()?;
    ensure!(status.success(), "{command:?} failed: {status}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What dockerd 20.10.24 wrote, cut to the rules of two ports and some others.
    const SAVED: &str = "\
# Generated by iptables-save
*filter
:DOCKER - [0:0]
-A FORWARD -j DOCKER-USER
-A DOCKER -d 172.28.0.10/32 ! -i br-1 -o br-1 -p tcp -m tcp --dport 10001 -j ACCEPT
-A DOCKER -d 172.28.0.10/32 ! -i br-1 -o br-1 -p tcp -m tcp --dport 10000 -j ACCEPT
COMMIT
*nat
-A POSTROUTING -s 172.28.0.10/32 -d 172.28.0.10/32 -p tcp -m tcp --dport 10001 -j MASQUERADE
-A DOCKER -i br-1 -j RETURN
-A DOCKER ! -i br-1 -p tcp -m tcp --dport 20000 -j DNAT --to-destination 172.28.0.10:10000
COMMIT
";

    #[test]
    fn one_rule_of_each_chain_is_multiplied_whichever_port_it_is_about() {
        let more = "\
*filter
-A DOCKER -d 172.28.0.10/32 ! -i br-1 -o br-1 -p tcp -m tcp --dport 10002 -j ACCEPT
-A DOCKER -d 172.28.0.10/32 ! -i br-1 -o br-1 -p tcp -m tcp --dport 10003 -j ACCEPT
COMMIT
*nat
-A POSTROUTING -s 172.28.0.10/32 -d 172.28.0.10/32 -p tcp -m tcp --dport 10002 -j MASQUERADE
-A POSTROUTING -s 172.28.0.10/32 -d 172.28.0.10/32 -p tcp -m tcp --dport 10003 -j MASQUERADE
-A DOCKER ! -i br-1 -p tcp -m tcp --dport 20002 -j DNAT --to-destination 172.28.0.10:10002
-A DOCKER ! -i br-1 -p tcp -m tcp --dport 20003 -j DNAT --to-destination 172.28.0.10:10003
COMMIT
";
        assert_eq!(more_rules(SAVED, 2..4), more);
    }

    #[test]
    fn what_stands_already_is_not_added_again() {
        let more = without_those_of(SAVED, &more_rules(SAVED, 0..3));
        let added = more
            .lines()
            .filter(|line| line.contains("*filter") || line.contains("-i br-1 -o"));
        let added: Vec<_> = added.collect();
        assert_eq!(added.len(), 2, "{more}");
        assert!(added[1].contains("--dport 10002"), "{more}");
    }

    #[test]
    fn without_a_rule_about_a_port_there_is_nothing_to_multiply() {
        assert_eq!(more_rules("*filter\nCOMMIT\n", 2..4), "");
    }
}
