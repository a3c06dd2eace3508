package login

import (
	"fmt"
	"html"
	"net/http"
	"strings"
)

// The pages that the browser shows. They are the same for everybody: nothing of
// a request or of an error is in them.

// loginPage is the page at the end of a login.
func loginPage(err error) []byte {
	if err != nil {
		return page("The login did not work", "You can close this window and go back to the program, which tells why.", crossIcon, "bad")
	}
	return page("You are logged in", "You can close this window and go back to the program.", checkIcon, "good")
}

// logoutPage is the page at the end of a logout.
func logoutPage(err error) []byte {
	if err != nil {
		return page("The logout did not work", "You can close this window and go back to the program, which tells why.", crossIcon, "bad")
	}
	return page("You are logged out", "You can close this window.", checkIcon, "good")
}

// refusePage answers what is not the end of this login.
func refusePage(w http.ResponseWriter, status int) {
	showPage(w, status, page(fmt.Sprint(status, " ", http.StatusText(status)),
		"This address only serves to end a login, and this is not the end of one. If you are logging in, go on in the other window.", crossIcon, "bad"))
}

func showPage(w http.ResponseWriter, status int, body []byte) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	w.Write(body)
}

const (
	checkIcon = `<path d="M14 25.5 21 32.5 35 16.5"/>`
	crossIcon = `<path d="M16.5 16.5 31.5 31.5M31.5 16.5 16.5 31.5"/>`
)

// The colours are those of WCAG's level AAA for text, in light and in dark; good
// and bad differ by their sign, not by their colour alone.
const pageText = `<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>TITLE</title>
<style>
:root { --back: #f3f4f6; --card: #ffffff; --text: #111827; --soft: #374151; --line: #d1d5db; --good: #146c3a; --bad: #a3121f; }
@media (prefers-color-scheme: dark) {
  :root { --back: #111418; --card: #1b2027; --text: #f3f4f6; --soft: #c9ced6; --line: #343b45; --good: #5fd38d; --bad: #ff8f8f; }
}
* { box-sizing: border-box; }
body { margin: 0; min-height: 100vh; display: grid; place-items: center; padding: 1rem; background: var(--back); color: var(--text);
  font: 1.0625rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif; }
main { width: 100%; max-width: 26rem; padding: clamp(1.5rem, 8vw, 2.5rem) clamp(1.25rem, 6vw, 2rem); text-align: center; background: var(--card);
  border: 1px solid var(--line); border-radius: 1rem; }
svg { width: 3rem; height: 3rem; fill: none; stroke: currentColor; stroke-width: 3.5; stroke-linecap: round; stroke-linejoin: round; }
.good { color: var(--good); } .bad { color: var(--bad); }
h1 { margin: 1rem 0 .5rem; font-size: 1.5rem; line-height: 1.25; font-weight: 650; text-wrap: balance; }
p { margin: 0; color: var(--soft); text-wrap: balance; }
</style>
</head>
<body>
<main>
<svg class="KIND" viewBox="0 0 48 48" aria-hidden="true"><circle cx="24" cy="24" r="21.5"/>ICON</svg>
<h1>TITLE</h1>
<p>TEXT</p>
</main>
</body>
</html>
`

func page(title, text, icon, kind string) []byte {
	return []byte(strings.NewReplacer("TITLE", html.EscapeString(title), "TEXT", html.EscapeString(text), "ICON", icon, "KIND", kind).Replace(pageText))
}
