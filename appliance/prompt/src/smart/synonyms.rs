//! What programs call the things that sentences describe: "Creates a .." is `new`, "whether .." is `is_`. General habits of
//! naming, taken from what documentation and names share in the trees that ranking was tuned on, and read through by hand.

use std::sync::OnceLock;

use super::terms;

/// Words of sentences, and what names have in their place.
#[rustfmt::skip]
const SYNONYMS: &[(&str, &str)] = &[
    ("access", "get mut"), ("acquire", "lock"), ("advance", "next skip bump"), ("allow", "enable permit can"),
    ("all", "each many every"), ("append", "push add extend"), ("apply", "map fold run"), ("array", "list vec slice"),
    ("ask", "prompt query request"), ("assign", "set"), ("attach", "add bind"), ("begin", "start open"),
    ("big", "be"), ("block", "wait"), ("build", "make with new create"), ("bytes", "buf slice raw"),
    ("calculate", "compute get eval"), ("call", "invoke run apply"), ("cancel", "abort stop"), ("categorize", "classify kind"),
    ("check", "is has valid verify ensure test"), ("clean", "clear flush strip"), ("close", "shutdown finish end"),
    ("combine", "merge join concat"), ("command", "cmd run"), ("compare", "eq cmp equal"), ("complete", "finish done"),
    ("compute", "calc get eval"), ("connect", "open dial"), ("construct", "new from make build"),
    ("constructor", "new from"), ("consume", "into take next eat"), ("contain", "has in include"), ("content", "read body text"),
    ("convert", "to into from as parse"), ("copy", "clone dup"), ("count", "num len size"), ("create", "new make build from init"),
    ("decode", "parse read from unpack"), ("define", "add set register"), ("delete", "remove drop pop unlink"),
    ("deserialize", "load loads from parse"), ("destroy", "drop free close"), ("detect", "find is guess"),
    ("determine", "is find get"), ("directory", "path folder"), ("discard", "drop clear skip"), ("display", "fmt show print str"),
    ("divide", "split div"), ("dump", "write print report"), ("element", "item entry"), ("emit", "write send push"),
    ("empty", "clear new default"), ("encode", "write to serialize pack"), ("end", "close finish eof last"),
    ("ensure", "check require assert"), ("entry", "item"), ("equal", "eq"), ("evaluate", "eval"), ("every", "all each"),
    ("execute", "run exec call"), ("exist", "has contains"), ("extract", "get take into parse"), ("fail", "error err"),
    ("fetch", "get load"), ("file", "path open"), ("find", "search lookup get index"), ("finish", "end close done complete"),
    ("first", "head front start"), ("flag", "is set option"), ("floating", "float"), ("format", "fmt str to"),
    ("generate", "gen make create build"), ("given", "from by"), ("greedy", "max"), ("handle", "on process"), ("hash", "digest"),
    ("hold", "has contains"), ("identical", "eq same"), ("identify", "detect find guess"), ("immediately", "now try"),
    ("increase", "inc grow add"), ("increment", "inc next"), ("indicate", "is has"), ("initial", "new start init"),
    ("initialize", "init new setup"), ("insert", "add put push set"), ("install", "setup add"), ("instance", "new"),
    ("integer", "int num"), ("invert", "not inv neg"), ("invoke", "call run"), ("iterate", "iter next each"),
    ("iterator", "iter"), ("join", "concat merge"), ("kill", "terminate stop"), ("last", "end tail rev back"),
    ("length", "len size"), ("list", "all vec"), ("little", "le"), ("load", "read open get"), ("look", "peek find"),
    ("lookup", "get find"), ("loop", "run"), ("make", "new create build"), ("match", "find is"), ("matching", "match"),
    ("merge", "join union combine"), ("modify", "set update mut"), ("move", "into take"), ("multiply", "mul"),
    ("mutable", "mut"), ("name", "ident"), ("negative", "neg"), ("next", "advance peek"), ("notify", "on wake signal"),
    ("number", "num count len"), ("obtain", "get"), ("onto", "push"), ("open", "connect load"), ("operator", "op"),
    ("output", "write print out"), ("overflow", "checked add"), ("overlap", "intersect"), ("override", "set"),
    ("ownership", "into take"), ("parallel", "par"), ("parse", "read from load"), ("perform", "do run"), ("permission", "mode perm"),
    ("position", "index at offset pos"), ("present", "has contains"), ("previous", "prev last back"), ("print", "write dump show"),
    ("process", "handle run do"), ("produce", "make gen"), ("provide", "get with"), ("put", "set insert push"),
    ("query", "get find"), ("raise", "error throw"), ("random", "rand"), ("range", "span bounds"), ("read", "recv parse load get"),
    ("receive", "recv read accept"), ("record", "log add"), ("reduce", "fold"), ("reference", "ref as get mut"),
    ("register", "add set"), ("release", "unlock free drop"), ("remain", "rest left"), ("remove", "pop del clear drop discard strip"),
    ("repeat", "many times"), ("replace", "sub set swap"), ("represent", "as str to repr"), ("representation", "repr str to"),
    ("request", "req"), ("require", "need ensure"), ("reserve", "grow capacity"), ("reset", "clear init"),
    ("resolve", "lookup find get"), ("result", "map or"), ("retrieve", "get fetch load"), ("return", "get"),
    ("reverse", "rev back"), ("rotate", "rot"), ("save", "write store dump"), ("scan", "parse find next"),
    ("search", "find lookup"), ("section", "part"), ("send", "write emit push"), ("separate", "split"), ("sequence", "seq list"),
    ("serialize", "dump dumps write to encode"), ("set", "put update with"), ("shrink", "truncate"), ("signal", "notify wake"),
    ("size", "len count"), ("skip", "advance ignore"), ("slice", "as"), ("sort", "order"), ("split", "part divide chunk"),
    ("start", "begin run open spawn"), ("stop", "end cancel close shutdown"), ("store", "set save put"), ("stream", "reader"),
    ("string", "str text"), ("strip", "trim remove"), ("subtract", "sub"), ("sum", "add total"), ("swap", "exchange replace"),
    ("switch", "set toggle"), ("terminate", "end stop kill"), ("test", "is check"), ("text", "str"), ("throw", "raise error"),
    ("total", "sum len count"), ("transform", "map to convert"), ("traverse", "walk visit"), ("true", "is has contains"),
    ("truncate", "cut shrink"), ("try", "attempt checked"), ("type", "kind"), ("uncheck", "unsafe"), ("underlying", "inner into get"),
    ("update", "set refresh"), ("valid", "is check"), ("validate", "check verify is"), ("vector", "vec"), ("verify", "check valid"),
    ("visit", "walk"), ("wait", "join poll block"), ("walk", "iter visit"), ("whether", "is has can"), ("wrap", "new from with"),
    ("write", "print emit put dump"), ("yield", "next iter"), ("zero", "clear null"),
];

/// Fingerprints of what names have in place of a word of the query, given by its own.
pub(super) fn of(word: u32) -> &'static [u32] {
    let all = FINGERPRINTS.get_or_init(fingerprints);
    let Ok(at) = all.starts.binary_search_by_key(&word, |(word, _)| *word) else { return &[] };
    let end = all.starts.get(at + 1).map_or(all.names.len(), |(_, start)| *start as usize);
    &all.names[all.starts[at].1 as usize..end]
}

/// The table by fingerprints, made once.
static FINGERPRINTS: OnceLock<Fingerprints> = OnceLock::new();

struct Fingerprints {
    /// Words in order, each with where its names begin.
    starts: Vec<(u32, u32)>,
    names: Vec<u32>,
}

fn fingerprints() -> Fingerprints {
    let pair = |(said, names): &(&str, &'static str)| (terms::part(said.as_bytes()), *names);
    let mut pairs: Vec<(u32, &str)> = SYNONYMS.iter().map(pair).collect();
    pairs.sort_unstable();
    let mut made = Fingerprints { starts: Vec::with_capacity(pairs.len()), names: Vec::new() };
    for (word, names) in pairs {
        // Words that are the same without their endings share what stands for them.
        if made.starts.last().is_none_or(|(last, _)| *last != word) {
            made.starts.push((word, made.names.len() as u32));
        }
        made.names.extend(names.split(' ').map(|name| terms::part(name.as_bytes())));
    }
    made
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_names_say_instead() {
        let of = |word: &str| of(terms::part(word.as_bytes()));
        assert!(of("Creates").contains(&terms::part(b"new")));
        assert!(of("whether").contains(&terms::part(b"is")));
        assert!(of("quux").is_empty());
    }

    #[test]
    fn each_word_has_one_entry() {
        assert!(SYNONYMS.windows(2).all(|two| two[0].0 != two[1].0));
    }
}
