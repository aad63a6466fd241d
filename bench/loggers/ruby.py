from . import Logger, fed

LOGGER = """require 'logger'; log = Logger.new(ARGV[0])
$stdin.each_line(chomp: true) { |l| l.start_with?(':') ? File.write(l[1..], '') : log.info(l) }"""
PUTS = """log = File.open(ARGV[0], 'a'); log.sync = true
$stdin.each_line(chomp: true) { |l| l.start_with?(':') ? File.write(l[1..], '') : (log.puts(l) rescue warn($!)) }"""


def ruby(script):
    return lambda outage: fed(outage, ["ruby", "-e", script, outage.log])


LOGGERS = [
    Logger("Ruby, Logger", "a record of the standard library's logger", ("ruby",), ruby(LOGGER)),
    Logger("Ruby, File#puts", "a file with sync", ("ruby",), ruby(PUTS)),
]
