/** The status page: one static document that reads the admin API; works without anything from elsewhere. */
export const STATUS_PAGE = `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Holdfast</title>
<link rel="icon" href="data:,">
<style>
  :root { color-scheme: light dark; --good: #1a7f37; --warn: #9a6700; --bad: #cf222e; --line: #8884 }
  @media (prefers-color-scheme: dark) { :root { --good: #3fb950; --warn: #d29922; --bad: #f85149 } }
  body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; padding: 0 1rem }
  h1 { font-size: 1.4rem } h2 { font-size: 1.1rem; margin-top: 2rem }
  .scroll { overflow-x: auto }
  table { border-collapse: collapse; width: 100% }
  th, td { text-align: left; padding: .35rem .8rem .35rem 0; border-bottom: 1px solid var(--line); vertical-align: top }
  .good { color: var(--good) } .warn { color: var(--warn) } .bad { color: var(--bad) }
  .small { font-size: .85em; opacity: .8 }
</style>
<h1>Holdfast <span id="summary" role="status"></span></h1>
<h2 id="hosts-title">Hosts</h2>
<div class="scroll"><table aria-labelledby="hosts-title"><thead><tr><th>Host<th>State<th>Live<th>Standby<th>Next<tbody id="hosts"></table></div>
<h2 id="cas-title">Certificate authorities</h2>
<div class="scroll"><table aria-labelledby="cas-title"><thead><tr><th>CA<th>State<th>Last failure<tbody id="cas"></table></div>
<h2 id="upstreams-title">Upstreams</h2>
<div class="scroll"><table aria-labelledby="upstreams-title"><thead><tr><th>Host<th>Path<th>Upstream<th>State<th>Active<th>Requests<th>Failures<th>Problem<tbody id="upstreams"></table></div>
<h2 id="events-title">Events</h2>
<div class="scroll"><table aria-labelledby="events-title"><thead><tr><th>When<th>What<th>Details<tbody id="events"></table></div>
<script>
const STATES = { valid: 'good', passthrough: 'good', interim: 'warn', condemned: 'bad', expired: 'bad', missing: 'bad', up: 'good', trial: 'warn', down: 'bad', ejected: 'warn' }
function cell(text, className) {
  const td = document.createElement('td')
  td.textContent = text ?? ''
  if (className) td.className = className
  return td
}
function fill(id, rows) {
  document.getElementById(id).replaceChildren(...rows.map((cells) => {
    const tr = document.createElement('tr')
    tr.append(...cells)
    return tr
  }))
}
let now
function until(time) {
  const hours = (Date.parse(time) - now) / 3600000
  const amount = Math.abs(hours) < 48 ? Math.round(Math.abs(hours)) + ' h' : Math.round(Math.abs(hours) / 24) + ' d'
  return hours < 0 ? amount + ' ago' : 'in ' + amount
}
function certificate(view) {
  return view ? view.source + ', ' + (view.fault ?? 'ends ' + until(view.notAfter)) : '–'
}
async function refresh() {
  const read = async (path) => (await fetch(path)).json()
  try {
    const [hosts, cas, upstreams, events, clock] = await Promise.all(['/api/certificates', '/api/cas', '/api/upstreams', '/api/events', '/api/clock'].map(read))
    now = Date.parse(clock.now)
    fill('hosts', hosts.map((h) => [cell(h.host), cell(h.state, STATES[h.state]), cell(certificate(h.live)), cell(certificate(h.standby)),
      cell(h.lastError ?? (h.nextAt ? until(h.nextAt) : ''), h.lastError ? 'bad small' : 'small')]))
    fill('cas', cas.map((c) => [cell(c.id), cell(c.distrusted ? 'distrusted' : c.state, c.distrusted ? 'warn' : STATES[c.state]),
      cell(c.lastFailure ? c.lastFailure.at + ' ' + c.lastFailure.message : 'none', 'small')]))
    const stateOf = (u) => u.health === 'failing' ? 'down' : u.ejected ? 'ejected' : 'up'
    fill('upstreams', upstreams.map((u) => [cell(u.host), cell(u.path), cell(u.url), cell(stateOf(u), STATES[stateOf(u)]),
      cell(u.active), cell(u.requests), cell(u.failures), cell(u.problem, 'small')]))
    fill('events', events.slice(-50).reverse().map(({ at, type, ...rest }) => [cell(at.slice(0, 19) + 'Z', 'small'), cell(type),
      cell(Object.entries(rest).map(([k, v]) => k + '=' + v).join(' '), 'small')]))
    const bad = hosts.filter((h) => h.state !== 'valid' && h.state !== 'passthrough').length + cas.filter((c) => c.state !== 'up' && !c.distrusted).length
      + new Set(upstreams.filter((u) => stateOf(u) !== 'up').map((u) => u.url)).size
    const summary = document.getElementById('summary')
    summary.textContent = bad === 0 ? '– all is well' : '– ' + bad + ' need attention'
    summary.className = bad === 0 ? 'good' : 'bad'
  } catch {
    const summary = document.getElementById('summary')
    summary.textContent = '– does not answer'
    summary.className = 'bad'
  }
  setTimeout(refresh, 5000)
}
refresh()
</script>
</html>
`
