<?php
// PECL memcache; MODE is default, or its hash strategy and hash function, such as standard-fnv.

[$mode, $servers] = [$argv[1], array_slice($argv, 2)];
if ($mode !== 'default') {
    [$strategy, $function] = explode('-', $mode);
    ini_set('memcache.hash_strategy', $strategy);
    ini_set('memcache.hash_function', $function);
}
$client = new Memcache();
foreach ($servers as $server) {
    [$host, $port, $weight] = explode(':', $server);
    $client->addServer($host, (int) $port, true, (int) $weight);
}
while (($line = fgets(STDIN)) !== false) {
    $key = rtrim($line, "\n");
    if (!$client->set($key, "value of $key")) {
        fwrite(STDERR, "not stored: $key\n");
        exit(1);
    }
}
