// What npm's memcached says, in text, to the server at the address and port of the arguments. A line for each answer.

const crypto = require('crypto');
const { promisify } = require('util');
const Memcached = require('memcached');

const [host, port] = process.argv.slice(2);
const m = new Memcached(`${host}:${port}`, { timeout: 30000, retries: 0, maxValue: 4000000 });

const LARGE = 1000000;
const numbers = (count) => [...Array(count).keys()];
const digest = (value) => value && `${value.length} ${crypto.createHash('sha1').update(value).digest('hex')}`;

// A method of the client that gives a promise.
const ask = (method, ...args) => promisify(m[method]).apply(m, args);
const message = (error) => (error instanceof Error ? error.message : [].concat(error).map(String));
const say = async (what, answer) => {
    const said = await answer.catch((error) => ({ error: message(error) }));
    console.log(what, JSON.stringify(said === undefined ? null : said));
};

const single = async () => {
    await say('get of nothing', ask('get', 'one'));
    await say('replace of nothing', ask('replace', 'one', 'x', 0));
    await say('append to nothing', ask('append', 'one', 'x'));
    await say('prepend to nothing', ask('prepend', 'one', 'x'));
    await say('delete of nothing', ask('del', 'one'));
    await say('touch of nothing', ask('touch', 'one', 60));
    await say('set', ask('set', 'one', 'a\r\nb', 600));
    await say('get', ask('get', 'one'));
    await say('add to something', ask('add', 'one', 'x', 0));
    await say('add of a structure', ask('add', 'two', { a: [1, 'two', null] }, 0));
    await say('get of a structure', ask('get', 'two'));
    await say('replace', ask('replace', 'two', 'b', 0));
    await say('append', ask('append', 'two', 'c'));
    await say('prepend', ask('prepend', 'two', 'a'));
    await say('get of what was appended to', ask('get', 'two'));
    await say('touch', ask('touch', 'two', 600));
    await say('delete', ask('del', 'two'));
    await say('get of what was deleted', ask('get', 'two'));
    await say('set of bytes', ask('set', 'bytes', Buffer.from([0, 127, 200, 255]), 0));
    await say('get of bytes', ask('get', 'bytes'));
    await say('set of an empty value', ask('set', 'empty', '', 0));
    await say('get of an empty value', ask('get', 'empty'));
    await say('set that has expired', ask('set', 'old', 'x', -1));
    await say('get of what has expired', ask('get', 'old'));
    await say('set of a key with a blank', ask('set', 'a blank', 'x', 0));
    await say('set of a key of other letters', ask('set', 'd\u00e9j\u00e0', 'vu', 0));
    await say('get of a key of other letters', ask('get', 'd\u00e9j\u00e0'));
};

const conditional = async () => {
    await say('gets of nothing', ask('gets', 'three'));
    await say('cas of nothing', ask('cas', 'three', 'x', '1', 0));
    await say('set before cas', ask('set', 'three', '3', 0));
    const { three, cas } = await ask('gets', 'three');
    console.log('gets', three, /^\d+$/.test(cas));
    await say('cas', ask('cas', 'three', '4', cas, 0));
    await say('cas with an old number', ask('cas', 'three', '5', cas, 0));
    await say('get after cas', ask('get', 'three'));
};

const counters = async () => {
    await say('incr of nothing', ask('incr', 'counter', 1));
    await say('set of a counter', ask('set', 'counter', 5, 0));
    await say('incr', ask('incr', 'counter', 3));
    await say('get of a counter', ask('get', 'counter'));
    await say('decr below zero', ask('decr', 'counter', 100));
    await say('set of a word', ask('set', 'word', 'abc', 0));
    await say('incr of a word', ask('incr', 'word', 1));
};

const many = async () => {
    await say('many sets', Promise.all(numbers(500).map((i) => ask('set', `many${i}`, `value ${i}`, 0))));
    const found = await ask('getMulti', numbers(700).map((i) => `many${i}`));
    console.log('get of many', JSON.stringify(Object.entries(found).sort()));
    await say('get of many that are not there', ask('getMulti', ['no', 'none']));
    await say('many gets', Promise.all(numbers(700).map((i) => ask('get', `many${i}`))));
    await say('many deletes', Promise.all(numbers(700).map((i) => ask('del', `many${i % 500}`))));
    await say('set of a large value', ask('set', 'large', 'x\r\n'.repeat(LARGE / 6), 0));
    await say('get of a large value', ask('get', 'large').then(digest));
    await say('large values', Promise.all(numbers(10).map((i) => ask('set', `large${i}`, `${i}`.repeat(LARGE / 2), 0))));
    await say('gets of large values', Promise.all(numbers(12).map((i) => ask('get', `large${i}`).then(digest))));
};

const administration = async () => {
    const [version] = await ask('version');
    console.log('version', Object.keys(version).sort().join());
    const [stats] = await ask('stats');
    console.log('items', stats.curr_items, typeof stats.pid, typeof stats.uptime);
    const [settings] = await ask('settings');
    console.log('settings', settings.item_size_max);
    const [classes] = await ask('items');
    const numbersOf = Object.keys(classes).filter((name) => name !== 'server');
    console.log('items by class', numbersOf.reduce((sum, name) => sum + classes[name].number, 0));
    const [slabs] = await ask('slabs');
    console.log('slabs', Object.keys(slabs).filter((name) => /^\d+$/.test(name)).every((name) => slabs[name].chunk_size > 0));
    await say('flush', ask('flush'));
    await say('get after it', ask('getMulti', ['one', 'large', 'word']));
};

(async () => {
    for (const part of [single, conditional, counters, many, administration]) await part();
    // The client takes SERVER_ERROR for a server that is lost, and waits to try it again: this comes last.
    await say('set of a value too large', ask('set', 'large', 'x'.repeat(2 * LARGE), 0));
    process.exit();
})();
