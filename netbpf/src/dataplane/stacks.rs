//! How much stack the programs' chains of calls need, as the strictest supported kernel counts it:
//! Linux 6.1 adds up frames in steps of 32 bytes, later ones in steps of 16.

use std::collections::{BTreeMap, BTreeSet};

use object::{
    Object as _, ObjectSection as _, ObjectSymbol as _, RelocationTarget, SectionIndex,
    SectionKind, SymbolKind,
};

/// What the kernel gives a chain of calls, in bytes.
const LIMIT: u64 = 512;
/// The step in which Linux 6.1 counts a frame.
const STEP: u64 = 32;
/// How many bytes an instruction has.
const LEN: u64 = 8;

/// A function's place: its section, and where in it.
type Place = (usize, u64);

#[derive(Debug, Default)]
struct Function {
    name: String,
    frame: u64,
    calls: BTreeSet<Place>,
}

/// One instruction (`struct bpf_insn`).
#[derive(Clone, Copy)]
struct Instruction {
    code: u8,
    dst: u8,
    src: u8,
    offset: i16,
    immediate: i32,
}

impl Instruction {
    const CALL: u8 = 0x85;

    /// Whether it calls a function of the same object (`BPF_PSEUDO_CALL`), not one of the kernel.
    fn is_local_call(self) -> bool {
        self.code == Self::CALL && self.src == 1
    }

    fn read(bytes: &[u8]) -> Self {
        Self {
            code: bytes[0],
            dst: bytes[1] & 0x0f,
            src: bytes[1] >> 4,
            offset: i16::from_le_bytes([bytes[2], bytes[3]]),
            immediate: i32::from_le_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]),
        }
    }

    /// How far below the frame pointer it reaches, given the one before it.
    fn reach(self, before: Option<Self>) -> u64 {
        const FRAME: u8 = 10;
        const MOVE: u8 = 0xbf;
        const ADD: u8 = 0x07;
        let below = |offset: i64| u64::try_from(-offset).unwrap_or_default();
        match self.code & 0x07 {
            1 if self.src == FRAME => below(self.offset.into()),
            2 | 3 if self.dst == FRAME => below(self.offset.into()),
            _ if self.code == ADD
                && before.is_some_and(|before| {
                    before.code == MOVE && before.src == FRAME && before.dst == self.dst
                }) =>
            {
                below(self.immediate.into())
            }
            _ => 0,
        }
    }
}

/// Every function of an object, by its place.
fn functions(file: &object::File<'_>) -> BTreeMap<Place, Function> {
    let mut functions = BTreeMap::new();
    for symbol in file
        .symbols()
        .filter(|symbol| symbol.kind() == SymbolKind::Text)
    {
        let Some(section) = symbol.section_index() else {
            continue;
        };
        let name = symbol.name().expect("a name").to_owned();
        let place = (section.0, symbol.address());
        functions.insert(
            place,
            Function {
                name,
                ..Function::default()
            },
        );
    }
    let starts: Vec<Place> = functions.keys().copied().collect();
    for (place, function) in &mut functions {
        let section = file
            .section_by_index(SectionIndex(place.0))
            .expect("a section");
        let next = starts
            .iter()
            .find(|other| other.0 == place.0 && other.1 > place.1);
        let end = next.map_or(section.size(), |next| next.1);
        let bytes = &section.data().expect("its bytes")[place.1 as usize..end as usize];
        read(file, place.1, bytes, &section, function);
    }
    functions
}

/// Reads a function's frame and calls.
fn read(
    file: &object::File<'_>,
    start: u64,
    bytes: &[u8],
    section: &object::Section<'_, '_>,
    function: &mut Function,
) {
    let instructions: Vec<_> = bytes.chunks(LEN as usize).map(Instruction::read).collect();
    let mut before = None;
    for (one, at) in instructions.iter().zip((start..).step_by(LEN as usize)) {
        function.frame = function.frame.max(one.reach(before));
        before = Some(*one);
        // One with a relocation is counted from the section's start, see `callee`.
        if one.is_local_call() && !section.relocations().any(|(of, _)| of == at) {
            let beside = (i64::from(one.immediate) + 1) * LEN as i64;
            let target = at.checked_add_signed(beside).expect("a place");
            function.calls.insert((section.index().0, target));
        }
    }
    for (at, relocation) in section.relocations() {
        if !(start..start + bytes.len() as u64).contains(&at) {
            continue;
        }
        let one = instructions[((at - start) / LEN) as usize];
        let RelocationTarget::Symbol(index) = relocation.target() else {
            continue;
        };
        let symbol = file.symbol_by_index(index).expect("a symbol");
        let Some(target) = symbol.section_index() else {
            continue;
        };
        let kind = file.section_by_index(target).expect("a section").kind();
        if kind == SectionKind::Text {
            function.calls.extend(callee(one, target, &symbol));
        }
    }
}

/// What an instruction with a relocation calls, or hands to the kernel to be called.
fn callee(
    one: Instruction,
    section: SectionIndex,
    symbol: &object::Symbol<'_, '_>,
) -> Option<Place> {
    const LOAD_ADDRESS: u8 = 0x18;
    let immediate = i64::from(one.immediate);
    let beside = match (symbol.kind(), one.code) {
        (SymbolKind::Text, Instruction::CALL | LOAD_ADDRESS) => 0,
        // A call counts instructions from the one behind it, an address bytes.
        (SymbolKind::Section, Instruction::CALL) => (immediate + 1) * LEN as i64,
        (SymbolKind::Section, LOAD_ADDRESS) => immediate,
        _ => return None,
    };
    Some((section.0, symbol.address().checked_add_signed(beside)?))
}

/// The deepest chain of calls from a function: its bytes, and the names.
fn deepest(
    functions: &BTreeMap<Place, Function>,
    place: Place,
    known: &mut BTreeMap<Place, (u64, Vec<String>)>,
) -> (u64, Vec<String>) {
    if let Some(found) = known.get(&place) {
        return found.clone();
    }
    let Some(function) = functions.get(&place) else {
        return (0, Vec::new());
    };
    let callees = function.calls.iter();
    let (below, chain) = callees
        .map(|callee| deepest(functions, *callee, known))
        .max()
        .unwrap_or_default();
    let frame = function.frame.max(1).next_multiple_of(STEP);
    let names = [format!("{} {}", function.name, function.frame)]
        .into_iter()
        .chain(chain);
    let found = (frame + below, names.collect());
    known.insert(place, found.clone());
    found
}

#[test]
fn no_chain_of_calls_needs_more_stack_than_the_oldest_kernel_gives() {
    for object in [super::OBJECT, super::L3_OBJECT] {
        if object.is_empty() {
            eprintln!("built without programs: there is nothing to count");
            return;
        }
        let file = object::File::parse(object).expect("an ELF object");
        let functions = functions(&file);
        for function in functions.values() {
            for callee in &function.calls {
                assert!(functions.contains_key(callee), "{function:?}: {callee:?}");
            }
        }
        let mut known = BTreeMap::new();
        let chains: Vec<_> = functions
            .keys()
            .map(|place| deepest(&functions, *place, &mut known))
            .collect();
        let most = chains.iter().max().expect("a chain");
        // A reader that misses the calls would find no chain at all.
        assert!(most.1.len() > 2, "{most:?}");
        assert!(most.0 <= LIMIT, "{} bytes: {}", most.0, most.1.join(" → "));
    }
}
