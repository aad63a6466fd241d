//! Functions with `...`, whose arguments lie in registers of two kinds and on the stack: byte for byte what they are without the library.

use std::fs;

use tideover_tests::{Outcome, Run, Scratch, fixture};

fn run(preload: bool, arguments: &[&str]) -> Outcome {
    let mut run = Run::new(fixture("variadic")).preload(preload);
    for argument in arguments {
        run = run.arg(argument);
    }
    run.output()
}

#[test]
fn lines_of_many_arguments_are_printed_as_without_the_library() {
    let scratch = Scratch::new();
    let print = |preload: bool| {
        let file = scratch.join(if preload { "preloaded.log" } else { "plain.log" });
        let outcome = run(preload, &["print", file.to_str().expect("UTF-8")]);
        outcome.passes();
        (outcome.stdout.clone(), fs::read_to_string(file).expect("the lines"))
    };
    let (plain, preloaded) = (print(false), print(true));
    assert_eq!(plain.1.lines().count(), 72, "{}", plain.1);
    assert!(plain.1.contains("dprintf: 1 -2 3 -4 5 -6 7 -8 9 -10 11 -12 | 1.5 -2.5 3.5"), "{}", plain.1);
    assert_eq!(plain.1, preloaded.1);
    assert_eq!(plain.0, preloaded.0, "what the calls answered");
}

#[test]
fn programs_get_all_arguments_by_execl_and_its_kin() {
    let counts = |name: &str| match name {
        "execle" => vec![1, 5, 6, 7, 8, 12],
        _ => (1..=20).collect(),
    };
    for name in ["execl", "execlp", "execle"] {
        for count in counts(name) {
            let arguments = ["exec", name, &count.to_string()];
            let (plain, preloaded) = (run(false, &arguments), run(true, &arguments));
            plain.passes();
            preloaded.passes();
            assert!(plain.stdout.ends_with(&format!(" {count}\n")), "{plain}");
            assert_eq!(plain.stdout.contains("GIVEN=yes TOLD=1"), name == "execle", "{plain}");
            assert_eq!(plain.stdout, preloaded.stdout, "{name} with {count} arguments");
        }
    }
}
