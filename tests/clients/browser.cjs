// Two pages in Chromium and a terminal edit one text, through a partition of one page.
'use strict'
const { execFileSync } = require('node:child_process')
const fs = require('node:fs')
const path = require('node:path')
const { assert, run } = require('./support.cjs')
const { chromium } = require('playwright-core')

const [, , , program, home, token, browser] = process.argv

const PAGE = `<!doctype html><meta charset="utf-8"><title>an editor</title><textarea rows="8" cols="60"></textarea>
<script>var module = { exports: {} }</script><script src="/t/braid-http.js"></script><script>window.braid = module.exports.fetch ?? braid_fetch; module.exports = {}</script>
<script src="/t/simpleton.js"></script><script>
const area = document.querySelector('textarea')
const client = new module.exports.Simpleton('/texts/page', {
  fetch: window.braid, headers: { Authorization: 'Bearer ' + new URLSearchParams(location.search).get('token') },
  heard: text => { area.value = text },
})
// What was typed is what differs from what was there, between what both ends have in common.
area.addEventListener('input', () => {
  const [old, now] = [Array.from(client.text), Array.from(area.value)]
  let start = 0, end = 0
  while (start < Math.min(old.length, now.length) && old[start] === now[start]) start++
  while (end < Math.min(old.length, now.length) - start && old[old.length - 1 - end] === now[now.length - 1 - end]) end++
  client.edit(start, old.length - end, now.slice(start, now.length - end).join(''))
})
window.client = client
</script>`

run(async base => {
  const args = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync']
  const chrome = await chromium.launch({ executablePath: browser, args })
  try {
    const open = async () => {
      const context = await chrome.newContext()
      const files = { 'braid-http.js': require.resolve('braid-http').replace(/index\.js$/, 'braid-http-client.js'), 'simpleton.js': path.join(__dirname, 'simpleton.cjs') }
      await context.route('**/t/*', route => {
        const name = new URL(route.request().url()).pathname.slice(3)
        if (name === 'editor') return route.fulfill({ contentType: 'text/html', body: PAGE })
        return route.fulfill({ contentType: 'text/javascript', body: fs.readFileSync(files[name], 'utf8') })
      })
      const page = await context.newPage()
      page.on('pageerror', error => console.error('in the page:', error))
      await page.goto(`${base}/t/editor?token=${token}`)
      await page.waitForFunction('window.client && client.version')
      return { context, page }
    }
    const [a, b] = [await open(), await open()]
    const type = async ({ page }, text, key = 'End') => {
      await page.focus('textarea')
      await page.keyboard.press(`Control+${key}`)
      await page.keyboard.type(text)
    }
    const shown = ({ page }) => page.inputValue('textarea')
    const until = ({ page }, text) => page.waitForFunction(text => document.querySelector('textarea').value === text, text)
    const terminal = (...words) => execFileSync(program, ['--home', home, ...words], { encoding: 'utf8' })

    await type(a, 'Soup')
    await until(b, 'Soup')
    await type(b, ' and bread')
    await until(a, 'Soup and bread')
    terminal('patch', '/texts/page', 'Onion s', '--range', 'text [0:1]')
    for (const page of [a, b]) await until(page, 'Onion soup and bread')

    // One page falls off the network. All three go on.
    await a.context.setOffline(true)
    await a.page.evaluate('client.part()')
    await type(a, ' \u{1f35e}')
    await type(b, 'Today: ', 'Home')
    terminal('patch', '/texts/page', '.', '--range', 'text [-0:-0]')
    await until(b, 'Today: Onion soup and bread.')
    assert.equal(await shown(a), 'Onion soup and bread \u{1f35e}')
    await a.context.setOffline(false)
    await a.page.evaluate('client.join()')
    await a.page.waitForFunction(`client.text.startsWith('Today: ') && client.text.includes('.')`)
    const text = await shown(a)
    await until(b, text)
    assert.ok(text.startsWith('Today: Onion soup and bread') && text.includes(' \u{1f35e}'), text)
    assert.equal(terminal('get', '/texts/page').trim(), text)
    if (process.env.TIMEBUS_SCREENSHOT) await a.page.screenshot({ path: process.env.TIMEBUS_SCREENSHOT })
  } finally {
    await chrome.close()
  }
})
