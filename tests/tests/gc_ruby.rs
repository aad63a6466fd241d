//! Ruby programs that drop files and sockets without closing them: plain they die at their limit, preloaded they go on.

use tideover_contract::collection::Runtime;
use tideover_tests::garbage::{LIMIT, Told, rescued, source};
use tideover_tests::programs::TOO_MANY;
use tideover_tests::{Run, program};

fn ruby(kind: &str, count: &str) -> Run {
    Run::new(program("ruby", "ruby")).arg(source("leak.rb")).args([kind, count])
}

#[test]
fn what_ruby_does_not_collect_for_comes_back() {
    for kind in ["pipe", "socket", "tcp", "udp", "pair", "dup", "popen", "accept"] {
        rescued(&ruby(kind, "200"), "done", Runtime::Ruby);
    }
}

#[test]
fn what_ruby_collects_for_itself_works_as_before() {
    for kind in ["open", "dir", "tempfile"] {
        let both = ruby(kind, "200").limit(LIMIT).both();
        both.same_but_for_messages().preloaded.passes();
    }
}

#[test]
fn gc_disable_is_about_the_collections_that_ruby_starts_itself() {
    // GC.start: "Initiates garbage collection, even if manually disabled."
    for kind in ["open", "pipe", "socket"] {
        rescued(&ruby(kind, "200").arg("nogc"), "done", Runtime::Ruby);
    }
}

#[test]
fn threads_forks_and_exits_go_on() {
    for kind in ["threads", "at_exit"] {
        rescued(&ruby(kind, "200"), "done", Runtime::Ruby);
    }
    ruby("fork", "200").limit(LIMIT).both().rescued(TOO_MANY);
}

#[test]
fn finalizers_may_raise_open_and_want_locks() {
    for kind in ["finalizer_raises", "finalizer_opens", "finalizer_locks", "error_info"] {
        rescued(&ruby(kind, "200"), "done", Runtime::Ruby);
    }
}

#[test]
fn what_comes_during_a_collection_is_not_lost() {
    for kind in ["timeout", "raise"] {
        let told = Told::by(&ruby(kind, "0").limit(LIMIT), "done");
        told.outcome.passes().says("arrived");
        assert!(told.collected(Runtime::Ruby).0 > 0, "{kind}");
    }
    ruby("kill", "0").limit(LIMIT).preload(true).output().passes().says("arrived");
    ruby("exit", "0").limit(LIMIT).preload(true).output().passes().says("done");
}
