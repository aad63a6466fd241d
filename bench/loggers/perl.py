from . import Logger, fed

PRINT = """use IO::Handle; open my $log, '>>', $ARGV[0] or die; $log->autoflush;
while (<STDIN>) { if (/^:(.*)/) { open my $mark, '>', $1; close $mark } else { print $log $_ } }"""
SYSWRITE = """open my $log, '>>', $ARGV[0] or die;
while (<STDIN>) { if (/^:(.*)/) { open my $mark, '>', $1; close $mark } else { syswrite($log, $_) // warn $! } }"""


def perl(script):
    return lambda outage: fed(outage, ["perl", "-e", script, outage.log])


LOGGERS = [
    Logger("Perl, print", "a handle with autoflush", ("perl",), perl(PRINT)),
    Logger("Perl, syswrite", "one write(2)", ("perl",), perl(SYSWRITE)),
    Logger("Perl, warn 2>> log", "a line on standard error", ("perl",),
           lambda o: fed(o, ["perl", "-e", "while (<STDIN>) { if (/^:(.*)/) { open my $mark, '>', $1; close $mark } else { warn $_ } }"], appends="2")),
]
