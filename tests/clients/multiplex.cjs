// Two hundred subscriptions of braid-http over one connection.
'use strict'
const { Updates, assert, braid_fetch, run } = require('./support.cjs')

const COUNT = 200

run(async base => {
  const place = n => `${base}/braid/many/${n}`
  const put = (n, value) => braid_fetch(place(n), { method: 'PUT', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify(value) })
  await put(0, 'before')
  // Node's own fetch cannot send the method MULTIPLEX, so that the second way is the one that is used.
  const multiplex = { via: 'POST', after: 0 }
  const all = []
  for (let n = 0; n < COUNT; n++) all.push(new Updates(place(n), { multiplex }))
  for (const updates of all) {
    const response = await updates.opened
    assert.equal(response.status, 209)
    assert.ok(response.multiplexed_through, 'it came over the multiplexer')
    await updates.until(() => true)
  }
  assert.equal(JSON.parse(all[0].heard[0].body_text), 'before')
  for (let n = 0; n < COUNT; n++) assert.equal((await put(n, n)).status, 200)
  await Promise.all(all.map((updates, n) => updates.until(update => update.status !== '404' && JSON.parse(update.body_text) === n)))
  // One that ends leaves the others be.
  all[1].close()
  await put(2, 'two')
  await all[2].until(update => update.status !== '404' && JSON.parse(update.body_text) === 'two')
  // What is refused is refused through it, too.
  const refused = await braid_fetch(`${base}/a//b`, { subscribe: true, multiplex })
  assert.equal(refused.status, 400)
  for (const updates of all) updates.close()
})
