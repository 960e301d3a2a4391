//! The verbs of a noun, described only when the noun is asked for: to describe all of them takes a
//! command longer than everything else that it does before it asks a living `run`.

use std::ops::Deref;

use clap::{ArgMatches, Command, Error, FromArgMatches, Subcommand};

/// One of the verbs that `V` lists.
#[derive(Clone, Debug)]
pub struct Verbs<V>(pub V);

impl<V> Deref for Verbs<V> {
    type Target = V;

    fn deref(&self) -> &V {
        &self.0
    }
}

impl<V: FromArgMatches> FromArgMatches for Verbs<V> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        V::from_arg_matches(matches).map(Self)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        self.0.update_from_arg_matches(matches)
    }
}

impl<V: Subcommand> Subcommand for Verbs<V> {
    fn augment_subcommands(command: Command) -> Command {
        command.defer(V::augment_subcommands)
    }

    fn augment_subcommands_for_update(command: Command) -> Command {
        command.defer(V::augment_subcommands_for_update)
    }

    fn has_subcommand(name: &str) -> bool {
        V::has_subcommand(name)
    }
}
