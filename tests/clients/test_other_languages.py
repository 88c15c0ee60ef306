"""Clients of PHP, Perl and Ruby, each where it is installed. Those of node are in test_conversations.py."""

import shutil
import subprocess

import pytest
from support.timing import PROGRAM_TIMEOUT

TIMEOUT = 30

PHP_MEMCACHED = r"""
$m = new Memcached();
const IS_BINARY = SPEAKS_BINARY;
$m->setOption(Memcached::OPT_BINARY_PROTOCOL, IS_BINARY);
$m->addServer($argv[1], (int)$argv[2]);
function check($what, $is) { if (!$is) { global $m; fwrite(STDERR, "$what: " . $m->getResultMessage() . "\n"); exit(1); } }
check('set', $m->set('php', ['a' => 1, 'b' => "\0\r\n"]));
check('get', $m->get('php') === ['a' => 1, 'b' => "\0\r\n"]);
check('add', !$m->add('php', 1));
check('replace', $m->replace('php', 4));
check('setMulti', $m->setMulti(array_combine(range(1000, 1199), range(0, 199))));
check('getMulti', count($m->getMulti(array_map('strval', range(1000, 1299)))) === 200);
check('cas', $m->cas($m->get('php', null, Memcached::GET_EXTENDED)['cas'], 'php', 5));
check('increment', $m->increment('php', 3) === 8);
check('decrement', $m->decrement('php', 100) === 0);
check('touch', $m->touch('php', 100));
check('delete', $m->delete('php'));
check('deleteMulti', array_unique($m->deleteMulti(['1000', '1001'])) === ['1000' => true]);
check('gone', $m->get('php') === false && $m->getResultCode() === Memcached::RES_NOTFOUND);
check('large', $m->set('large', str_repeat('x', 500000)) && strlen($m->get('large')) === 500000);
$m->setOption(Memcached::OPT_COMPRESSION, false);
check('counter', $m->delete('counter') || true);
if (IS_BINARY) {
    check('initial', $m->increment('counter', 5, 10, 60) === 10 && $m->increment('counter', 5, 10, 60) === 15);
    check('odd key', $m->set("od\xc3\xa9d", 1) && $m->get("od\xc3\xa9d") === 1);
}
check('too large', !$m->set('large', str_repeat('x', 2000000)) && $m->get('large') === false);
check('version', count($m->getVersion()) === 1);
check('stats', count($m->getStats()) === 1);
check('items', array_values($m->getStats())[0]['curr_items'] > 0);
if (!IS_BINARY) {
    $m->setOption(Memcached::OPT_NOREPLY, true);
    check('noreply', $m->set('quiet', 1) && $m->delete('quiet'));
    $m->setOption(Memcached::OPT_NOREPLY, false);
    check('after noreply', $m->get('quiet') === false);
}
$m->setOption(Memcached::OPT_BUFFER_WRITES, true);
for ($i = 0; $i < 100; $i++) $m->set("buffered$i", $i);
check('buffered', $m->get('buffered99') === 99);
check('flush', $m->flush() && $m->get('buffered99') === false);
"""

PHP_MEMCACHE = r"""
$m = new Memcache();
$m->addServer($argv[1], (int)$argv[2]);
function check($what, $is) { if (!$is) { fwrite(STDERR, "$what\n"); exit(1); } }
check('set', $m->set('php', ['a' => 1, 'b' => "\0\r\n"]));
check('get', $m->get('php') === ['a' => 1, 'b' => "\0\r\n"]);
check('add', !$m->add('php', 1));
for ($i = 0; $i < 200; $i++) check('set many', $m->set("many$i", $i));
$keys = array_map(fn($i) => "many$i", range(0, 299));
check('get many', count($m->get($keys)) === 200);
check('increment', $m->increment('many5', 3) === 8);
check('compressed', $m->set('large', str_repeat('x', 500000), MEMCACHE_COMPRESSED) && strlen($m->get('large')) === 500000);
check('delete', $m->delete('php') && $m->get('php') === false);
check('version', strpos($m->getVersion(), '1.6') === 0);
check('stats', is_array($m->getStats()));
check('flush', $m->flush() && $m->get('many5') === false);
"""

#: The program for both of Perl's clients.
PERL = r"""
my $m = CLIENT->new({servers => ["$ARGV[0]:$ARGV[1]"]});
sub check { my ($what, $is) = @_; die "$what\n" unless $is }
check('set', $m->set('perl', {a => 1, b => "\0\r\n"}));
check('get', $m->get('perl')->{b} eq "\0\r\n");
check('add', !$m->add('perl', 1));
check('replace', $m->replace('perl', 4));
check('set many', $m->set("perl$_", $_)) for 1 .. 200;
check('get many', 200 == keys %{$m->get_multi(map { "perl$_" } 1 .. 300)});
check('incr', $m->incr('perl5', 3) == 8);
check('decr', $m->decr('perl5', 3) == 5);
check('large', $m->set('large', 'x' x 500_000) && length $m->get('large') == 500_000);
check('delete', $m->delete('perl'));
check('gone', !defined $m->get('perl'));
check('flush', $m->flush_all && !defined $m->get('perl5'));
$m->disconnect_all;
"""


#: The program for dalli, which uses the binary protocol, or with `protocol: :meta` the meta commands.
DALLI = r"""
require 'dalli'
m = Dalli::Client.new("#{ARGV[0]}:#{ARGV[1]}", OPTIONS)
def check(what, is) abort(what) unless is end
m.delete('ruby')
check('set', m.set('ruby', { 'a' => 1, 'b' => "\0\r\n" }))
check('get', m.get('ruby') == { 'a' => 1, 'b' => "\0\r\n" })
check('add', !m.add('ruby', 1))
check('replace', m.replace('ruby', 4))
value, cas = m.get_cas('ruby')
check('cas', value == 4 && m.set_cas('ruby', 5, cas) && !m.set_cas('ruby', 6, cas))
m.multi { 200.times { |i| m.set("many#{i}", i) } }
check('many', m.get_multi((0...300).map { |i| "many#{i}" }).length == 200)
check('raw', m.set('count', '5', 0, raw: true) && m.incr('count', 3) == 8 && m.decr('count', 100) == 0)
m.delete('count')
check('initial', m.incr('count', 3, 60, 10) == 10 && m.incr('count', 3) == 13)
check('append', m.set('text', 'b', 0, raw: true) && m.append('text', 'c') && m.prepend('text', 'a') && m.get('text', raw: true) == 'abc')
check('touch', m.touch('ruby', 100) && m.gat('ruby', 100) == 5)
check('odd key', m.set("od\u00e9d", 1) && m.get("od\u00e9d") == 1)
check('large', m.set('large', 'x' * 500_000) && m.get('large').length == 500_000)
check('delete', m.delete('ruby') && m.get('ruby').nil?)
check('version', m.version.values.first.start_with?('1.6'))
check('stats', m.stats.values.first['curr_connections'])
check('flush', m.flush_all && m.get('many5').nil?)
m.close
"""


def has_class(name):
    return succeeds("php", "-r", f"exit(class_exists('{name}') ? 0 : 1);")


def has_module(name):
    return succeeds("perl", f"-M{name}", "-e", "1")


def succeeds(program, *arguments):
    return shutil.which(program) and subprocess.run([program, *arguments], capture_output=True, timeout=PROGRAM_TIMEOUT).returncode == 0


def run(shop, *command):
    done = subprocess.run([*command, shop.proxy.host, str(shop.proxy.port)], capture_output=True, text=True, timeout=TIMEOUT)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr


@pytest.mark.parametrize(
    "name, program",
    [
        ("Memcached", PHP_MEMCACHED.replace("SPEAKS_BINARY", "false")),
        ("Memcached", PHP_MEMCACHED.replace("SPEAKS_BINARY", "true")),
        ("Memcache", PHP_MEMCACHE),
    ],
    ids=["Memcached text", "Memcached binary", "Memcache"],
)
def test_php(shop, name, program):
    if not has_class(name):
        pytest.skip(f"PHP's class {name} is not installed")
    run(shop, "php", "-r", program, "--")


@pytest.mark.parametrize("name", ["Cache::Memcached", "Cache::Memcached::Fast"])
def test_perl(shop, name):
    if not has_module(name):
        pytest.skip(f"Perl's {name} is not installed")
    run(shop, "perl", f"-M{name}", "-e", PERL.replace("CLIENT", name))


@pytest.mark.parametrize("options", ["protocol: :binary", "protocol: :meta"])
def test_dalli(shop, options):
    if not succeeds("ruby", "-e", "require 'dalli'"):
        pytest.skip("dalli is not installed")
    if "meta" in options and not succeeds("ruby", "-e", "require 'dalli'; exit(Dalli::Protocol.const_defined?(:Meta))"):
        pytest.skip("this dalli does not speak the meta protocol")
    run(shop, "ruby", "-e", DALLI.replace("OPTIONS", options))
