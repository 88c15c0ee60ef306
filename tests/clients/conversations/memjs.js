// What memjs says, in binary, to the server at the address and port of the arguments. A line for each answer.

const crypto = require('crypto');
const memjs = require('memjs');

const [host, port] = process.argv.slice(2);
const m = memjs.Client.create(`${host}:${port}`, { timeout: 30, retries: 1, logger: { log() {} } });

const LARGE = 1000000;
const numbers = (count) => [...Array(count).keys()];
const buffer = (size, seed) => Buffer.alloc(size, `${seed} \r\n\0`);
const digest = (value) => value && `${value.length} ${crypto.createHash('sha1').update(value).digest('hex')}`;

const say = async (what, answer) => {
    const said = await answer.catch((error) => ({ error: error.message }));
    console.log(what, JSON.stringify(said));
};
const get = async (key) => {
    const { value, flags } = await m.get(key);
    return { value: value && value.toString('latin1'), flags: flags && flags.toString('hex') };
};
const getDigest = async (key) => digest((await m.get(key)).value);
const stats = (key) =>
    new Promise((resolve, reject) => m.statsWithKey(key, (error, server, values) => (error ? reject(error) : resolve(values))));

const single = async () => {
    await say('get of nothing', get('one'));
    await say('replace of nothing', m.replace('one', 'x', {}));
    await say('append to nothing', m.append('one', 'x'));
    await say('prepend to nothing', m.prepend('one', 'x'));
    await say('delete of nothing', m.delete('one'));
    await say('touch of nothing', m.touch('one', 60));
    await say('set', m.set('one', '1', { expires: 600 }));
    await say('get', get('one'));
    await say('add to something', m.add('one', 'x', {}));
    await say('add', m.add('two', Buffer.from([0, 13, 10, 255]), {}));
    await say('get of bytes', get('two'));
    await say('replace', m.replace('two', '2', {}));
    await say('append', m.append('two', '3'));
    await say('prepend', m.prepend('two', '1'));
    await say('get of what was appended to', get('two'));
    await say('touch', m.touch('two', 600));
    await say('delete', m.delete('two'));
    await say('get of what was deleted', get('two'));
    await say('set of an empty value', m.set('empty', '', {}));
    await say('get of an empty value', get('empty'));
    await say('set that has expired', m.set('old', 'x', { expires: 2592001 }));
    await say('get of what has expired', get('old'));
};

const counters = async () => {
    await say('initial', m.increment('counter', 5, { initial: 7, expires: 600 }));
    await say('increment', m.increment('counter', 5, {}));
    await say('get of a counter', get('counter'));
    await say('decrement', m.decrement('counter', 2, {}));
    await say('decrement below zero', m.decrement('counter', 100, {}));
    await say('decrement without a value', m.decrement('new counter', 100, { initial: 3 }));
    await say('set of a word', m.set('word', 'abc', {}));
    await say('increment of a word', m.increment('word', 1, {}));
    await say('decrement of a word', m.decrement('word', 1, {}));
    await say('set of the highest', m.set('highest', '18446744073709551615', {}));
    await say('increment of the highest', m.increment('highest', 1, {}));
};

const keys = async () => {
    for (const key of ['a blank', 'line\r\nend', '\0', 'd\u00e9j\u00e0 vu', 'k'.repeat(250)]) {
        const name = JSON.stringify(key.slice(0, 20)) + key.length;
        await say(`set of ${name}`, m.set(key, key, {}));
        await say(`get of ${name}`, get(key));
        await say(`delete of ${name}`, m.delete(key));
    }
};

const large = async () => {
    await say('set of a large value', m.set('large', buffer(LARGE, 'large'), {}));
    await say('get of a large value', getDigest('large'));
    await say('append to a large value', m.append('large', buffer(LARGE, 'large')));
    await say('get of a large value after that', getDigest('large'));
    await say('set of a value too large', m.set('large', buffer(2 * LARGE, 'large'), {}));
    await say('get of a value too large', getDigest('large'));
};

const parallel = async () => {
    await say('many sets', Promise.all(numbers(2000).map((i) => m.set(`many${i}`, `value ${i}`, {}))));
    await say('many gets', Promise.all(numbers(2500).map((i) => get(`many${i}`))));
    await say('many large sets', Promise.all(numbers(20).map((i) => m.set(`large${i}`, buffer(LARGE / 2, i), {}))));
    await say('many large gets', Promise.all(numbers(25).map((i) => getDigest(`large${i}`))));
    await say('many deletes', Promise.all(numbers(2500).map((i) => m.delete(`many${i % 2000}`))));
    await say(
        'all kinds, one after the other without waiting',
        Promise.all(
            numbers(200).flatMap((i) => [
                m.set(`k${i % 3}`, `${i}`, {}),
                m.increment(`k${i % 3}`, 1, {}),
                get(`k${i % 3}`),
                m.append(`k${i % 3}`, '0'),
                m.add(`k${i % 3}`, 'x', {}),
                getDigest(`large${i % 25}`),
                m.delete(`k${i % 3}`),
                get(`k${i % 3}`),
            ]),
        ),
    );
};

const administration = async () => {
    await say('items', stats('').then((all) => all.curr_items));
    await say('version', stats('').then((all) => all.version.slice(0, 6)));
    await say('limit of an item', stats('settings').then((all) => all.item_size_max));
    await say('classes', stats('items').then((all) => Object.keys(all).every((name) => /^items:\d+:\w+$/.test(name))));
    await say('reset', stats('reset').then(Object.keys));
    await say('unknown stats', stats('nonsense'));
    await say('flush', m.flush().then(Object.values));
    await say('gets after it', Promise.all(['one', 'large', 'word'].map(get)));
};

(async () => {
    for (const part of [single, counters, keys, large, parallel, administration]) await part();
    m.quit();
})();
