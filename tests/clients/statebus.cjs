// Statebus's browser client, in as much of a browser as it needs: it gets what is there and what is not, sets keys, and
// hears of changes.
'use strict'
const { assert, braid_fetch, run } = require('./support.cjs')
const path = require('node:path')
const vm = require('node:vm')
const fs = require('node:fs')

run(async base => {
  const statebus = require('statebus')
  const bus = statebus()
  const element = { getAttribute: () => null }
  const page = {
    window: { statebus: () => bus, braid_fetch, addEventListener() {}, location: { href: 'http://127.0.0.1/' } },
    document: { cookie: '', addEventListener() {}, getElementsByTagName: () => [], querySelector: () => element, createElement: () => ({ style: {} }) },
    location: { protocol: 'http:', hostname: '127.0.0.1', port: '', href: 'http://127.0.0.1/' },
    localStorage: {}, console, braid_fetch, AbortController, Map, JSON, Math, setTimeout, clearTimeout, statebus,
    clientjs_option: () => undefined, bus,
  }
  page.window.document = page.document
  const client = path.join(path.dirname(require.resolve('statebus')), 'client-library.js')
  vm.runInNewContext(fs.readFileSync(client, 'utf8'), page)
  page.window.bus.libs.http_out('/*', `${base}/`)

  // What a key holds, as often as it changes.
  const heard = []
  let look = () => {}
  bus.get('/there', object => { heard.push(['/there', object.val]); look() })
  bus.get('/absent', object => { heard.push(['/absent', object.val]); look() })
  const until = wanted => new Promise(done => {
    look = () => { if (heard.some(([key, value]) => wanted(key, value))) done() }
    look()
  })
  await until((key, value) => key === '/there' && value?.n === 1)
  await braid_fetch(`${base}/there/n`, { method: 'PUT', headers: { 'Content-Type': 'application/json' }, body: '2' })
  await until((key, value) => key === '/there' && value?.n === 2)
  await braid_fetch(`${base}/absent`, { method: 'PUT', headers: { 'Content-Type': 'application/json' }, body: '"here"' })
  await until((key, value) => key === '/absent' && value === 'here')
  bus.set({ key: '/set', val: { by: 'statebus' } })
  for (;;) {
    const response = await braid_fetch(`${base}/set`)
    if (response.status === 200) { assert.deepEqual(await response.json(), { by: 'statebus' }); break }
    await new Promise(done => setImmediate(done))
  }
})
