package loopback

import (
	"crypto/sha256"
	"encoding/base64"
	"html"
	"net/http"
	"strings"
)

// fragmentScript hands the fragment of the page's address, which no browser sends
// by itself, to the server of the page: by a POST to the same origin with the
// page's nonce. The fragment leaves the address bar and the history first.
const fragmentScript = `const nonce=document.querySelector('meta[name="nonce"]').content,fragment=location.hash.slice(1);` +
	`const front=document.querySelector('meta[name="front"]').content;` +
	`history.replaceState(null,"",location.pathname);` +
	`const say=(h,p)=>{document.querySelector("h1").textContent=h;document.querySelector("p").textContent=p};` +
	`fetch(location.pathname,{method:"POST",headers:{"Content-Type":"application/x-www-form-urlencoded"},` +
	`body:new URLSearchParams({nonce,fragment}).toString()}).then(r=>r.ok?` +
	`say("You can close this window","apiauth has the answer. The "+front+" shows the result."):` +
	`say("This address was refused","It does not belong to the login that apiauth is waiting for."))` +
	`.catch(()=>say("Nobody listens any more","The login is over. The "+front+" says how it ended."))`

// FragmentPage answers with a page that hands over the fragment of its address,
// as form fields nonce and fragment. Its policy allows that one script and
// requests to its own origin. front is what the person looks at, such as
// "terminal".
func FragmentPage(w http.ResponseWriter, nonce, front string) {
	sum := sha256.Sum256([]byte(fragmentScript))
	SetHeaders(w.Header())
	policy := w.Header().Get("Content-Security-Policy")
	w.Header().Set("Content-Security-Policy", policy+"; connect-src 'self'; script-src 'sha256-"+base64.StdEncoding.EncodeToString(sum[:])+"'")
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	var b strings.Builder
	b.WriteString(`<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="nonce" content="` + html.EscapeString(nonce) + `"><meta name="front" content="` + html.EscapeString(front) + `">` +
		`<meta name="viewport" content="width=device-width,initial-scale=1"><title>apiauth</title><style>` + style + `</style></head><body><main>` +
		`<h1>One moment</h1><p>If this page stays, copy its address and paste it at the ` + html.EscapeString(front) + `.</p></main>` +
		`<script>` + fragmentScript + "</script></body></html>\n")
	send(w, http.StatusOK, b.String())
}
