// A client that edits a text as simpleton clients do, over braid-http: what it wrote counts at once, and an update that
// does not start from what it has is left alone, because a better one will come. It runs in Node and in a page.
'use strict'

const points = text => Array.from(text)

function demand(holds, what) {
  if (!holds) throw new Error(what)
}

class Simpleton {
  // `options`: `fetch` is braid_fetch, `sha256` makes digests if it is there, `headers` go with every request, `heard`
  // is called when something of others changed the text.
  constructor(url, options) {
    this.url = url
    this.peer = options.peer ?? Math.random().toString(36).slice(2)
    this.counter = -1
    this.version = []
    this.text = ''
    this.sending = new Set()
    this.waiting = []
    this.options = options
    this.online = true
    this.subscribe()
  }

  subscribe() {
    this.aborter = new AbortController()
    this.options.fetch(this.url, {
      headers: { 'Merge-Type': 'simpleton', Accept: 'text/plain', ...this.options.headers },
      subscribe: true, retry: () => true, heartbeats: 5, peer: this.peer, signal: this.aborter.signal,
      parents: () => (this.version.length ? this.version : null),
      multiplex: this.options.multiplex,
    }).then(response => response.subscribe(update => this.take(update), error => {
      if (error.name !== 'AbortError') throw error
    })).catch(error => { if (error.name !== 'AbortError') throw error })
  }

  take(update) {
    demand(update.version && update.parents, 'an update has both')
    const from = [...update.parents].sort()
    if (JSON.stringify(from) !== JSON.stringify(this.version)) return
    if (update.body !== undefined) this.text = update.body_text
    else {
      const old = points(this.text)
      let out = [], at = 0
      for (const patch of update.patches) {
        const [, start, end] = patch.range.match(/^\[(\d+):(\d+)\]$/)
        demand(+start >= at && +end <= old.length, `${patch.range} fits`)
        out = out.concat(old.slice(at, +start), points(patch.content_text))
        at = +end
      }
      this.text = out.concat(old.slice(at)).join('')
    }
    this.version = update.version
    const digest = update.extra_headers?.['repr-digest']
    if (digest && this.options.sha256) demand(digest === this.digest(), 'the text is another one')
    this.options.heard?.(this.text)
    this.look()
  }

  digest() { return `sha-256=:${this.options.sha256(this.text)}:` }

  // Replaces characters `start` up to `end`.
  edit(start, end, content) {
    const old = points(this.text)
    this.text = [...old.slice(0, start), ...points(content), ...old.slice(end)].join('')
    this.counter += end - start + points(content).length
    const parents = this.version
    this.version = [`${this.peer}-${this.counter}`]
    const params = {
      method: 'PUT', version: this.version, parents, peer: this.peer, retry: response => response.status !== 550,
      headers: { 'Merge-Type': 'simpleton', ...(this.options.sha256 ? { 'Repr-Digest': this.digest() } : {}), ...this.options.headers },
      patches: [{ unit: 'text', range: `[${start}:${end}]`, content }],
    }
    this.outbox = (this.outbox ?? []).concat([params])
    if (this.online) this.flush()
  }

  // Sends what was written, all at once.
  flush() {
    for (const params of this.outbox ?? []) {
      const sent = this.options.fetch(this.url, params).then(response => {
        demand(response.status === 200, `a write was answered with ${response.status}`)
        this.sending.delete(sent)
        this.look()
      })
      this.sending.add(sent)
    }
    this.outbox = []
  }

  // Pulls the cable, and puts it back.
  part() { this.online = false; this.aborter.abort() }
  join() { this.online = true; this.flush(); this.subscribe() }

  look() { this.waiting = this.waiting.filter(({ wanted, done }) => !(wanted(this) && (done(), true))) }
  until(wanted) { return new Promise(done => { this.waiting.push({ wanted, done }); this.look() }) }
}

module.exports = { Simpleton, points }
