// What the scripts share.
'use strict'
const assert = require('node:assert/strict')
const { fetch: braid_fetch } = require('braid-http')

// The client logs its retries.
console.log = () => {}
console.debug = () => {}

// A promise with its handles outside.
function handle() {
  let done, fail
  const promise = new Promise((yes, no) => { [done, fail] = [yes, no] })
  return { promise, done, fail }
}

// Calls a scenario with the peer's address; anything that goes wrong ends the process with 1.
function run(scenario) {
  // Only so that it ends: clients that are refused wait for seconds, and the machine may be busy.
  const watchdog = setTimeout(() => { console.error('it takes too long'); process.exit(1) }, 180_000)
  process.on('unhandledRejection', error => { console.error(error); process.exit(1) })
  scenario(process.argv[2]).then(
    () => { clearTimeout(watchdog); process.exit(0) },
    error => { console.error(error); process.exit(1) },
  )
}

// A subscription whose updates can be waited for.
class Updates {
  constructor(url, params = {}) {
    this.heard = []
    this.waiting = []
    this.aborter = new AbortController()
    this.opened = braid_fetch(url, { subscribe: true, retry: true, ...params, signal: this.aborter.signal }).then(response => {
      this.response = response
      response.subscribe(
        update => { this.heard.push(update); this.look() },
        error => { this.error = error; this.look() },
      )
      return response
    })
  }

  look() {
    this.waiting = this.waiting.filter(({ wanted, done, fail }) => {
      const found = this.heard.find(wanted)
      if (found) done(found)
      else if (this.error && this.error.name !== 'AbortError') fail(this.error)
      else return true
      return false
    })
  }

  // The first update for which `wanted` holds, now or later.
  until(wanted) {
    const { promise, done, fail } = handle()
    this.waiting.push({ wanted, done, fail })
    this.look()
    return promise
  }

  close() { this.aborter.abort() }
}

module.exports = { Updates, assert, braid_fetch, handle, run }
