//! Verdicts say what went into them; reasons have words and counters of their own.

use std::{
    collections::{BTreeSet, HashSet},
    vec::Vec,
};

use proptest::prelude::*;

use super::*;

#[test]
fn a_verdict_without_payload_says_what_it_is() {
    let verdicts = [
        (Verdict::PASS, Outcome::Pass),
        (Verdict::TO_HOST, Outcome::ToHost),
        (Verdict::RELATED, Outcome::Related),
    ];
    for (verdict, outcome) in verdicts {
        assert_eq!((verdict.outcome(), verdict.payload()), (outcome, 0));
    }
}

#[test]
fn a_drop_says_its_reason() {
    for reason in DropReason::ALL {
        let verdict = Verdict::drop(*reason);
        assert_eq!(
            (verdict.outcome(), verdict.payload()),
            (Outcome::Drop, *reason as u32)
        );
        assert_eq!(Verdict::from(*reason), verdict);
    }
}

#[test]
fn a_way_through_the_stack_says_its_reason() {
    for reason in StackReason::ALL {
        let verdict = Verdict::stack(*reason);
        assert_eq!(
            (verdict.outcome(), verdict.payload()),
            (Outcome::Stack, *reason as u32)
        );
    }
}

proptest! {
    #[test]
    fn a_payload_comes_out_as_it_went_in(payload: u32) {
        let (container, commit) = (Verdict::container(payload), Verdict::commit(payload));
        let (local, past) = (Verdict::local(payload), Verdict::past_bridge(payload));
        prop_assert_eq!((local.outcome(), local.payload()), (Outcome::Local, payload));
        prop_assert_eq!((past.outcome(), past.payload()), (Outcome::PastBridge, payload));
        prop_assert_eq!((container.outcome(), container.payload()), (Outcome::Container, payload));
        prop_assert_eq!((commit.outcome(), commit.payload()), (Outcome::Commit, payload));
    }
}

/// A word for scripts: small letters in words joined by single underscores, perhaps numbered.
fn is_snake_case(name: &str) -> bool {
    let is_word = |word: &str| {
        let letters = word.trim_end_matches(|c: char| c.is_ascii_digit());
        !letters.is_empty() && letters.chars().all(|c| c.is_ascii_lowercase())
    };
    name.split('_').all(is_word)
}

/// `NoFlow` → `no_flow`.
fn snake_case(variant: impl core::fmt::Debug) -> std::string::String {
    let mut name = std::string::String::new();
    for letter in std::format!("{variant:?}").chars() {
        if letter.is_ascii_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(letter.to_ascii_lowercase());
    }
    name
}

#[test]
fn names_are_snake_case_and_those_of_the_code() {
    for hook in Hook::ALL {
        assert!(is_snake_case(hook.name()), "{}", hook.name());
        assert_eq!(hook.name(), snake_case(hook));
    }
    for reason in DropReason::ALL {
        assert!(is_snake_case(reason.name()), "{}", reason.name());
        assert_eq!(reason.name(), snake_case(reason));
    }
    for reason in StackReason::ALL {
        assert!(is_snake_case(reason.name()), "{}", reason.name());
        assert_eq!(reason.name(), snake_case(reason));
    }
}

fn are_unique<'a>(words: impl Iterator<Item = &'a str> + Clone) -> bool {
    words.clone().collect::<BTreeSet<_>>().len() == words.count()
}

#[test]
fn no_two_reasons_have_the_same_words() {
    assert!(are_unique(Hook::ALL.iter().map(|hook| hook.name())));
    assert!(are_unique(
        DropReason::ALL.iter().map(|reason| reason.name())
    ));
    assert!(are_unique(
        DropReason::ALL.iter().map(|reason| reason.message())
    ));
    assert!(are_unique(
        StackReason::ALL.iter().map(|reason| reason.name())
    ));
    assert!(are_unique(
        StackReason::ALL.iter().map(|reason| reason.message())
    ));
}

#[test]
fn messages_say_something_and_do_not_end_in_a_full_stop() {
    let drops = DropReason::ALL.iter().map(|reason| reason.message());
    let stacks = StackReason::ALL.iter().map(|reason| reason.message());
    for message in drops.chain(stacks) {
        assert!(!message.trim().is_empty());
        assert_eq!(message.trim(), message);
        assert!(!message.ends_with('.'), "{message}");
    }
}

#[test]
fn reasons_are_numbered_in_their_order() {
    for (number, hook) in Hook::ALL.iter().enumerate() {
        assert_eq!(*hook as usize, number);
    }
    for (number, reason) in DropReason::ALL.iter().enumerate() {
        assert_eq!(*reason as usize, number);
    }
    for (number, reason) in StackReason::ALL.iter().enumerate() {
        assert_eq!(*reason as usize, number);
    }
}

#[test]
fn every_counter_belongs_to_one_hook_and_one_reason() {
    let mut seen = HashSet::new();
    for hook in Hook::ALL {
        let drops = DropReason::ALL
            .iter()
            .map(|reason| drop_counter(hook, *reason));
        let stacks = StackReason::ALL
            .iter()
            .map(|reason| stack_counter(hook, *reason));
        for index in drops.chain(stacks).collect::<Vec<_>>() {
            assert!(index < COUNTERS, "{hook:?}: {index}");
            assert!(seen.insert(index), "{hook:?}: {index} is another's");
        }
    }
    assert_eq!(seen.len() as u32, COUNTERS);
}

#[test]
fn a_counter_is_found_by_the_number_that_a_verdict_carries() {
    for hook in Hook::ALL {
        for reason in DropReason::ALL {
            let carried = Verdict::drop(*reason).payload();
            assert_eq!(drop_counter_of(hook, carried), drop_counter(hook, *reason));
        }
        for reason in StackReason::ALL {
            let carried = Verdict::stack(*reason).payload();
            assert_eq!(
                stack_counter_of(hook, carried),
                stack_counter(hook, *reason)
            );
        }
    }
}

#[test]
fn the_hooks_at_sockets_are_those_that_hang_on_the_cgroup() {
    let at_sockets: HashSet<_> = Hook::AT_SOCKETS.iter().map(|hook| hook.name()).collect();
    for hook in Hook::ALL {
        let is_listed = at_sockets.contains(hook.name());
        assert_eq!(hook.seat() == Seat::Cgroup, is_listed, "{hook:?}");
    }
}
