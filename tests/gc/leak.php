<?php // Drops N objects of a kind without closing them, each in a cycle: leak.php KIND N [nogc]
class Session {
    public $me, $resource;
    function __construct($kind) {
        $this->me = $this;
        $this->resource = $kind == 'socket' ? stream_socket_server('tcp://127.0.0.1:0') : fopen('/etc/passwd', 'r');
        if (!$this->resource) { echo "Too many open files\n"; exit(1); }
        if ($kind == 'include') include __DIR__ . '/empty.php';
    }
}
if (($argv[3] ?? '') == 'nogc') gc_disable();
for ($i = 0; $i < $argv[2]; $i++) new Session($argv[1]);
echo "done\n";
fgets(STDIN);
