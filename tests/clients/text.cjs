// Two simpleton clients, a partition, and a third who only sends.
'use strict'
const crypto = require('node:crypto')
const { assert, braid_fetch, run } = require('./support.cjs')
const { Simpleton, points } = require('./simpleton.cjs')

// A small generator of numbers, so that a run can be had again.
function dice(seed) {
  return below => {
    seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0
    return Math.floor((seed / 4294967296) * below)
  }
}

run(async base => {
  const seed = Number(process.argv[3] ?? Date.now() % 1_000_000)
  console.error(`seed ${seed}`)
  const random = dice(seed)
  const url = `${base}/texts/shared`
  const tip = async () => {
    const response = await braid_fetch(url)
    return response.status === 404 ? { text: '', version: [] } : { text: await response.text(), version: JSON.parse(`[${response.headers.get('version')}]`) }
  }
  const sha256 = text => crypto.createHash('sha256').update(text).digest('base64')
  const options = { fetch: braid_fetch, sha256 }
  const clients = [new Simpleton(url, options), new Simpleton(url, { ...options, peer: 'a-b-7' })]
  const write = client => {
    const length = points(client.text).length
    const start = random(length + 1)
    const end = Math.min(length, start + (random(3) ? 0 : random(6)))
    client.edit(start, end, ['x', 'émile ', '😀', 'a\r\nb', 'long words that go on '][random(5)])
  }
  // The same text everywhere, and nobody has anything under way.
  const together = async () => {
    for (;;) {
      await Promise.all(clients.flatMap(client => [...client.sending]))
      const { text, version } = await tip()
      await Promise.all(clients.map(client => client.until(() => client.text === text && JSON.stringify(client.version) === JSON.stringify(version))))
      if ((await tip()).text === text) return text
    }
  }
  clients[0].edit(0, 0, 'Hello 😀 world')
  assert.equal(await together(), 'Hello 😀 world')
  for (let round = 0; round < 6; round++) {
    // Both at once, faster than they hear of each other; a third sends without listening.
    for (let n = 0; n < 8; n++) for (const client of clients) write(client)
    assert.equal((await braid_fetch(url, { method: 'PUT', patches: [{ unit: 'text', range: '[-0:-0]', content: '!' }] })).status, 200)
    const all = await together()
    assert.ok(all.includes('!'))
    // One goes away, both write on, it comes back.
    clients[round % 2].part()
    for (let n = 0; n < 5; n++) for (const client of clients) write(client)
    await Promise.all([...clients[1 - (round % 2)].sending])
    clients[round % 2].join()
    await together()
  }
  // An edit that takes everything away, beside one that adds.
  clients[0].edit(0, points(clients[0].text).length, '')
  clients[1].edit(0, 0, 'kept')
  assert.equal(await together(), 'kept')
})
