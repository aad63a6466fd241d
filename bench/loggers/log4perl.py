from . import Logger, fed

SCRIPT = """use Log::Log4perl;
Log::Log4perl->init(\\"log4perl.rootLogger=INFO, F
log4perl.appender.F=Log::Log4perl::Appender::File
log4perl.appender.F.filename=$ARGV[0]
log4perl.appender.F.mode=append
log4perl.appender.F.layout=PatternLayout
log4perl.appender.F.layout.ConversionPattern=%d %p %m%n
");
my $log = Log::Log4perl->get_logger();
while (<STDIN>) { chomp; if (/^:(.*)/) { open my $mark, '>', $1; close $mark } else { eval { $log->info($_) }; warn $@ if $@ } }"""

LOGGERS = [Logger("Perl, Log4perl", "a message of a file appender", ("perl", "/usr/share/perl5/Log/Log4perl.pm"),
                  lambda o: fed(o, ["perl", "-e", SCRIPT, o.log]))]
