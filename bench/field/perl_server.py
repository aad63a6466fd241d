from . import HTTP, Program, crowd, free_port

SCRIPT = """
use IO::Socket::INET; use IO::Select;
my $listener = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => $ARGV[0], Listen => 500, ReuseAddr => 1) or die;
my $watched = IO::Select->new($listener);
while (1) {
    for my $ready ($watched->can_read) {
        if ($ready == $listener) {
            my $client = $listener->accept or next;
            $watched->add($client);
        } else {
            if (sysread($ready, my $said, 999) && open(my $file, '<', '/etc/passwd')) {
                local $/;
                syswrite($ready, "HTTP/1.0 200 OK\\r\\n\\r\\n" . <$file>);
            }
            $watched->remove($ready);
            close $ready;
        }
    }
}
"""


def run(trial):
    port = free_port()
    trial.serve(["perl", "-e", SCRIPT, port], port)
    return crowd(trial, port, 150, *HTTP)


PROGRAM = Program("Perl, a server", "a select loop that hangs up on a client when it can't open a file", ("perl",), 40, run, short=False)
