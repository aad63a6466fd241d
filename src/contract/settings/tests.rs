//! Every row of the table is read and printed as the documents say.

use super::kind::{GIB, HOUR, MS};
use super::*;

#[test]
fn every_row_is_well_formed() {
    for (index, setting) in SETTINGS.iter().enumerate() {
        let env = format!("TIDEOVER_{}", setting.name.to_uppercase());
        assert_eq!(setting.env, env, "the variable is the key in capitals");
        let default = parse(&setting.kind, setting.default.as_bytes());
        assert_eq!(default, Some(default_value(index)), "{}: the default's text, and its value", setting.name);
        assert_eq!(default_text(index), setting.default);
        assert_eq!(by_env(env.as_bytes()), Some(index));
        assert_eq!(by_name(&setting.name.replace('_', "-")), Some(index));
        if !matches!(setting.kind, Kind::Path | Kind::Globs | Kind::Flag | Kind::Text) {
            assert_eq!(Shown(&setting.kind, default_value(index)).to_string(), setting.default);
        }
    }
    assert_eq!(SETTINGS[Id::LogFile as usize].name, "log_file");
}

#[test]
fn values_are_read_as_users_write_them() {
    let wait = Kind::Duration(MS, HOUR);
    assert_eq!(parse(&wait, b"500ms"), Some(500 * MS));
    assert_eq!(parse(&wait, b" 1.5s "), Some(1500 * MS));
    assert_eq!(parse(&wait, b"2m"), Some(120 * SECOND));
    for bad in ["", "5", "-1s", "s", "1.s", ".5s", "1e3s", "99999999999999999999s", "2h", "0ms", "1 s"] {
        assert_eq!(parse(&wait, bad.as_bytes()), None, "{bad:?}");
    }
    assert_eq!(parse(&Kind::Ratio(0, MILLION), b"0.25"), Some(250_000));
    assert_eq!(parse(&Kind::Ratio(0, MILLION), b"1.0000001"), Some(MILLION));
    assert_eq!(parse(&Kind::Ratio(0, MILLION), b"1.1"), None);
    assert_eq!(parse(&Kind::Count(0, 10), b"1.0"), None);
    assert_eq!(parse(&Kind::Choice(&["off", "auto"]), b"auto"), Some(1));
    assert_eq!(parse(&Kind::Path, b"relative"), None);
    assert_eq!(parse(&Kind::Path, &[b'/'; MAX_PATH + 1]), None);
    assert_eq!(parse(&Kind::Flag, b"\xff"), None);
    assert_eq!(parse(&Kind::Rate, b"64M/min"), Some(64 << 20));
    assert_eq!(parse(&Kind::Rate, b"1K/s"), Some(60 << 10));
    assert_eq!(parse(&Kind::Rate, b"0/min"), Some(0));
    assert_eq!(parse(&Kind::Rate, b"0"), Some(0));
    assert_eq!(parse(&Kind::Globs, b"*.l[o"), None);
    assert_eq!(parse(&Kind::SizeOr("auto", 1, GIB), b"auto"), Some(0));
    assert_eq!(parse(&Kind::SizeOr("auto", 1, GIB), b"1.5M"), Some(3 << 19));
    assert_eq!(parse(&Kind::Sink, b"/var/spare.log"), Some(sink::PATH));
    let runtimes = |text: &str| parse(&Kind::Runtimes, text.as_bytes());
    for text in ["off", "auto", "python,jvm", "auto,guile"] {
        assert_eq!(Shown(&Kind::Runtimes, runtimes(text).unwrap()).to_string(), text);
    }
    assert_eq!(runtimes(" jvm, python "), runtimes("python,jvm"));
    assert_eq!([runtimes(""), runtimes("node"), runtimes("off,python"), runtimes("python,")], [None; 4]);
    let limit = Kind::Or("off", &Kind::Count(1, 9));
    assert_eq!([&b"off"[..], b"7", b"0", b"10"].map(|text| parse(&limit, text)), [Some(0), Some(7), None, None]);
    assert_eq!(limit.to_string(), "off, or a whole number from 1 to 9");
    assert_eq!([0, 7].map(|value| Shown(&limit, value).to_string()), ["off", "7"]);
    let rotated = |text: &str| parse(&Kind::Rotation, text.as_bytes());
    assert_eq!(rotated("100M,5").and_then(rotation), Some((100 << 20, 5)));
    assert_eq!((rotated("off"), rotated(" 1G , 1000 ").and_then(rotation)), (Some(0), Some((GIB, 1000))));
    assert_eq!(Shown(&Kind::Rotation, rotated("1536K,3").unwrap()).to_string(), "1536K,3");
    assert_eq!(rotated("1048576G,1"), None);
    for bad in ["", "100M", "100M,", ",5", "100M,0", "100M,1001", "1K,5", "100M,5,6", "100M,5M", "1.5,5"] {
        assert_eq!(rotated(bad), None, "{bad:?}");
    }
    for bad in ["64M", "/min", "64M/day", "M/min"] {
        assert_eq!(parse(&Kind::Rate, bad.as_bytes()), None, "{bad:?}");
    }
    for (kind, bad) in [(Kind::SizeOr("auto", 1, GIB), "2G"), (Kind::SizeOr("auto", 1, GIB), "K"), (Kind::Sink, "x")] {
        assert_eq!(parse(&kind, bad.as_bytes()), None, "{bad:?}");
    }
}

#[test]
fn ranges_are_said_in_words() {
    assert_eq!(SETTINGS[Id::MaxRetries as usize].kind.to_string(), "a whole number from 0 to 1000");
    assert_eq!(SETTINGS[Id::Jitter as usize].kind.to_string(), "a number from 0.0 to 1.0");
    assert!(SETTINGS[Id::MaxWait as usize].kind.to_string().ends_with("from 1ms to 1h"));
    assert_eq!(SETTINGS[Id::Raise as usize].kind.to_string(), "one of off, auto, force");
}
