<?php
// PHP's Memcached; MODE is default, consistent, libketama or prefix.

[$mode, $servers] = [$argv[1], array_slice($argv, 2)];
$client = new Memcached();
switch ($mode) {
    case 'consistent':
        $client->setOption(Memcached::OPT_DISTRIBUTION, Memcached::DISTRIBUTION_CONSISTENT);
        break;
    case 'libketama':
        $client->setOption(Memcached::OPT_LIBKETAMA_COMPATIBLE, true);
        break;
    case 'prefix':
        $client->setOption(Memcached::OPT_PREFIX_KEY, 'app:');
        break;
}
foreach ($servers as $server) {
    [$host, $port, $weight] = explode(':', $server);
    $client->addServer($host, (int) $port, (int) $weight);
}
while (($line = fgets(STDIN)) !== false) {
    $key = rtrim($line, "\n");
    if (!$client->set($key, "value of $key")) {
        fwrite(STDERR, "not stored: $key: " . $client->getResultMessage() . "\n");
        exit(1);
    }
}
