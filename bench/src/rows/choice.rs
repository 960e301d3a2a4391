//! What the user wants, and the hosts that most rows share.

use std::{
    cell::{OnceCell, RefCell},
    path::{Path, PathBuf},
    thread,
    time::Instant,
};

use anyhow::Result;

use super::published;
use crate::{
    budget::{Budget, Cuts},
    peers::{
        self, DIRECT, DOCKER_LEGACY, DOCKER_NFT, DOCKER_NO_PROXY, LOOPBACK, NFT_MAPS, PLAIN,
        PLAIN_AGAIN, Sites, Wanted,
        docker::{Backend, Proxy},
        netbpf::Pool,
    },
    quiet::{Cycles, Quiet},
    rounds::{Pace, Plan},
    row::{Row, SUBJECT},
};

/// What the user wants.
pub struct Choice {
    /// What the ids of the rows contain.
    word: String,
    /// The command to measure.
    pub netbpf: PathBuf,
    /// How often and how long.
    pub pace: Pace,
    common: OnceCell<Sites>,
    pool: OnceCell<Result<Pool>>,
    without_proxy: OnceCell<Sites>,
    many: RefCell<Option<Sites>>,
    quiet: RefCell<Option<Quiet<'static>>>,
    budget: RefCell<Budget>,
}

impl Choice {
    /// The rows whose ids contain `word`, measured for the command `netbpf` in a run that begins
    /// now.
    pub fn new(word: &str, netbpf: PathBuf, pace: Pace) -> Self {
        Self {
            word: word.to_owned(),
            netbpf,
            pace,
            common: OnceCell::new(),
            pool: OnceCell::new(),
            without_proxy: OnceCell::new(),
            many: RefCell::default(),
            quiet: RefCell::default(),
            budget: RefCell::new(Budget::start(pace.limit, super::weight())),
        }
    }

    /// Measures, with an eye on whether the machine is quiet.
    ///
    /// # Errors
    ///
    /// As [`Plan::measure`].
    pub fn measure(&self, plan: Plan<'_>) -> Result<Vec<Row>> {
        self.with_quiet(|quiet| plan.measure(&self.pace, &mut self.budget.borrow_mut(), quiet))
    }

    /// Does some work with an eye on whether the machine is quiet.
    ///
    /// # Errors
    ///
    /// There is no reference load; what the work says.
    pub fn with_quiet<T>(&self, work: impl FnOnce(&mut Quiet<'static>) -> Result<T>) -> Result<T> {
        let mut quiet = self.quiet.borrow_mut();
        work(match &mut *quiet {
            Some(quiet) => quiet,
            none => none.insert(Quiet::start(self.pace.patience)?),
        })
    }

    /// How many cycles were disturbed so far.
    pub fn cycles(&self) -> Cycles {
        let quiet = self.quiet.borrow();
        quiet
            .as_ref()
            .map(|it| it.judge.cycles())
            .unwrap_or_default()
    }

    /// A part of the run begins, of so many works. Where few rows are chosen, nothing is shared out.
    pub fn begin_part(&self, weight: u32, works: u32) {
        if self.word.is_empty() {
            self.budget.borrow_mut().part(weight, works);
        }
    }

    /// Does some work with an eye on the time of the run.
    pub fn with_budget<T>(&self, work: impl FnOnce(&mut Budget) -> T) -> T {
        work(&mut self.budget.borrow_mut())
    }

    /// What was left out so far for lack of time.
    pub fn cuts(&self) -> Cuts {
        self.budget.borrow().cuts()
    }

    /// Sets something up, which its removal has to be paid for.
    fn setting_up<T>(&self, work: impl FnOnce() -> T) -> T {
        let began = Instant::now();
        let done = work();
        self.budget.borrow_mut().set_up(began.elapsed());
        done
    }

    /// Whether a row is to be measured.
    pub fn has(&self, id: &str) -> bool {
        id.contains(&self.word)
    }

    /// Sets up at the same time what every row together needs, if every row is to be measured;
    /// else each host is set up once the first row asks for it.
    pub fn prepare(&self) {
        if !self.word.is_empty() {
            return;
        }
        let (netbpf, first) = (&*self.netbpf, self.pace.by_dockerd);
        let (common, without_proxy, many, pool) = self.setting_up(|| {
            thread::scope(|scope| {
                let common = scope.spawn(|| common(netbpf));
                let without_proxy = scope.spawn(without_proxy);
                let many = scope.spawn(|| many(netbpf, first));
                let pool = pool(netbpf);
                (common.join(), without_proxy.join(), many.join(), pool)
            })
        });
        // What panicked is set up again where a row asks for it, and says why it can't be.
        let _ = common.map(|common| self.common.set(common));
        let _ = without_proxy.map(|without| self.without_proxy.set(without));
        let _ = many.map(|many| self.many.replace(Some(many)));
        let _ = self.pool.set(pool);
    }

    /// Every contender on a host of its own, with one published port. They stand until the end of
    /// the run.
    pub fn common(&self) -> &Sites {
        self.common
            .get_or_init(|| self.setting_up(|| common(&self.netbpf)))
    }

    /// Docker without its proxy, in the same way.
    pub fn without_proxy(&self) -> &Sites {
        self.without_proxy
            .get_or_init(|| self.setting_up(without_proxy))
    }

    /// The host with virtual IPs, or why there is none.
    pub fn pool(&self) -> &Result<Pool> {
        self.pool
            .get_or_init(|| self.setting_up(|| pool(&self.netbpf)))
    }

    /// Hosts with this many published ports, for `work`. Their ports grow in number where they
    /// stand: rows have to ask for fewer ports first.
    pub fn with_ports<T>(&self, ports: u16, work: impl FnOnce(&Sites) -> T) -> T {
        let mut many_ports = self.many.borrow_mut();
        let first = self.pace.by_dockerd;
        let many_ports =
            many_ports.get_or_insert_with(|| self.setting_up(|| many(&self.netbpf, first)));
        many_ports.change(|_, site| {
            // Also where that many were there from the beginning: dockerd may have left out some.
            site.grow(ports.max(site.ports))
        });
        work(many_ports)
    }
}

fn common(netbpf: &Path) -> Sites {
    let docker = |backend| move || peers::docker::site(backend, Proxy::Process, 1);
    Sites::set_up(vec![
        Wanted::new(SUBJECT, || peers::netbpf::site(netbpf, 1)),
        Wanted::new(DOCKER_NFT, docker(Backend::Nft)),
        Wanted::new(DOCKER_LEGACY, docker(Backend::Legacy)),
        Wanted::new(NFT_MAPS, || peers::nft_maps::site(1)),
        Wanted::new(PLAIN, || Ok(peers::bed::plain(1))),
        Wanted::new(PLAIN_AGAIN, || Ok(peers::bed::plain(published::ASKED))),
        Wanted::new(DIRECT, || Ok(peers::direct_veth::site())),
        Wanted::new(LOOPBACK, || Ok(peers::loopback::site())),
    ])
}

fn without_proxy() -> Sites {
    Sites::set_up(vec![Wanted::new(DOCKER_NO_PROXY, || {
        peers::docker::site(Backend::Nft, Proxy::Rules, 1)
    })])
}

fn many(netbpf: &Path, first: u16) -> Sites {
    let docker = |backend| move || peers::docker::site(backend, Proxy::Process, first);
    Sites::set_up(vec![
        Wanted::new(SUBJECT, move || peers::netbpf::site(netbpf, first)),
        Wanted::new(DOCKER_NFT, docker(Backend::Nft)),
        Wanted::new(DOCKER_LEGACY, docker(Backend::Legacy)),
        Wanted::new(NFT_MAPS, move || peers::nft_maps::site(first)),
    ])
}

fn pool(netbpf: &Path) -> Result<Pool> {
    let began = Instant::now();
    let pool = peers::set_up(|| Pool::set_up(netbpf));
    let seconds = began.elapsed().as_secs_f64();
    eprintln!("bench: the virtual IPs are set up in {seconds:.1} s");
    pool
}
