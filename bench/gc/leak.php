<?php // leak.php LIVE OPENS
ini_set('memory_limit', '2G');
$live = [];
for ($i = 0; $i < $argv[1]; $i++) $live[] = new ArrayObject();
class Session { public $me, $file; function __construct() { $this->me = $this; $this->file = fopen('/etc/hostname', 'r'); } }
for ($i = 0; $i < $argv[2]; $i++) new Session;
echo "done\n";
fgets(STDIN);
