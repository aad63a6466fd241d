from . import FIXTURES, Logger, fed, made

compiled = made("rustc", "-O", "--edition=2021", "-o", "FOLDER/appends", FIXTURES / "disk_append.rs")
LOGGERS = [Logger("Rust, writeln!", "a File opened to append", ("rustc",), lambda o: fed(o, [o.data / "appends", o.log]), compiled)]
