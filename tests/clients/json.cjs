// JSON over braid-http: reading, subscribing, patches, several at once, coming back, saying it twice.
'use strict'
const { Updates, assert, braid_fetch, run } = require('./support.cjs')

run(async base => {
  const url = `${base}/braid/json`
  const put = (params) => braid_fetch(url, { method: 'PUT', headers: { 'Content-Type': 'application/json' }, ...params })
  const versions = response => JSON.parse(`[${response.headers.get('version')}]`)

  // A subscription to what is not there yet hears of it.
  const first = new Updates(url, { peer: 'reader' })
  assert.equal((await first.opened).status, 209)
  assert.equal((await first.until(() => true)).status, '404')
  const created = await put({ version: ['jos\u00e9-0'], parents: [], body: JSON.stringify({ list: ['a', 'b'], n: 1 }) })
  assert.equal(created.status, 200)
  assert.deepEqual(versions(created), ['jos\u00e9-0'])
  const snapshot = await first.until(update => update.version?.[0] === 'jos\u00e9-0')
  assert.deepEqual(JSON.parse(snapshot.body_text), { list: ['a', 'b'], n: 1 })

  // One patch travels as a range with a body, several as a block of patches.
  const one = await put({ version: ['x-1'], parents: ['jos\u00e9-0'], patches: [{ unit: 'json', range: '["list"]["1"]', content: '"B"' }] })
  assert.equal(one.status, 200)
  const told = await first.until(update => update.version?.[0] === 'x-1')
  assert.deepEqual(told.parents, ['jos\u00e9-0'])
  assert.equal(told.patches.length, 1)
  const patches = [
    { unit: 'json', range: '.list[-0:-0]', content: '["c","d"]' },
    { unit: 'json', range: '["n"]', content: '' },
    { unit: 'json', range: '["m"]', content: '{"deep":true}' },
  ]
  assert.equal((await put({ version: ['x-2'], parents: ['x-1'], patches })).status, 200)
  await first.until(update => update.version?.[0] === 'x-2')
  const got = await braid_fetch(url)
  assert.deepEqual(await got.json(), { list: ['a', 'B', 'c', 'd'], m: { deep: true } })
  assert.deepEqual(versions(got), ['x-2'])

  // The same again changes nothing.
  assert.equal((await put({ version: ['x-2'], parents: ['x-1'], patches })).status, 200)
  assert.deepEqual(versions(await braid_fetch(url)), ['x-2'])

  // Old versions are there, and what changed since.
  assert.deepEqual(await (await braid_fetch(url, { version: ['x-1'] })).json(), { list: ['a', 'B'], n: 1 })
  const back = new Updates(url, { parents: ['x-1'] })
  const missed = await back.until(() => true)
  assert.deepEqual([missed.version, missed.parents], [['x-2'], ['x-1']])
  assert.ok(missed.patches.length > 0)

  // Ten writes on top of each other, sent at once and in the wrong order.
  const chain = []
  for (let n = 12; n > 2; n--)
    chain.push(put({ version: [`x-${n}`], parents: [`x-${n - 1}`], patches: [{ unit: 'json', range: `["c${n}"]`, content: `${n}` }] }))
  for (const response of await Promise.all(chain)) assert.equal(response.status, 200)
  await first.until(update => update.version?.[0] === 'x-12')
  const chained = await (await braid_fetch(url)).json()
  for (let n = 3; n < 13; n++) assert.equal(chained[`c${n}`], n)

  // Who wrote on top of all he was told is not told it again.
  const own = new Updates(url, { peer: 'me', parents: ['x-12'] })
  await own.opened
  assert.equal((await put({ version: ['me-1'], parents: ['x-12'], peer: 'me', patches: [{ unit: 'json', range: '["own"]', content: '1' }] })).status, 200)
  assert.equal((await put({ version: ['y-1'], parents: ['me-1'], peer: 'you', patches: [{ unit: 'json', range: '["own"]', content: '2' }] })).status, 200)
  const other = await own.until(update => update.version?.[0] === 'y-1')
  assert.deepEqual(other.parents, ['me-1'])
  assert.equal(own.heard.length, 1)
  for (const updates of [first, back, own]) updates.close()

  // Unknown parents are refused by name, after a while.
  const unknown = await put({ version: ['z-1'], parents: ['nobody-7'], body: '1' })
  assert.equal(unknown.status, 309)
  assert.deepEqual(versions(unknown), ['nobody-7'])
})
