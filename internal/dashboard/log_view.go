package dashboard

import (
	"context"
	"slices"
	"strconv"
	"time"
)

const (
	logDays  = 30  // that the chart shows
	logLines = 200 // that the table shows
)

// logView draws the uses of each day and lists the newest lines of the log.
type logView struct {
	days   []day // the oldest first
	lines  []Use // the newest first
	proofs []Proof
}

type day struct {
	name string
	uses int
}

func (s *Server) logView(ctx context.Context) (view, error) {
	today := s.now().Local()
	first := time.Date(today.Year(), today.Month(), today.Day()-logDays+1, 0, 0, 0, 0, time.Local)
	uses, err := s.work.Uses(ctx, first)
	if err != nil {
		return nil, err
	}
	v := logView{}
	if v.proofs, err = s.work.Proof(ctx); err != nil {
		return nil, err
	}
	at := map[string]int{}
	for i := range logDays {
		name := first.AddDate(0, 0, i).Format(time.DateOnly)
		at[name] = i
		v.days = append(v.days, day{name: name})
	}
	for _, u := range uses {
		if i, ok := at[u.Time.Local().Format(time.DateOnly)]; ok {
			v.days[i].uses += u.Count
		}
	}
	slices.Reverse(uses)
	v.lines = uses[:min(len(uses), logLines)]
	return v, nil
}

func (logView) title() string { return "Log" }
func (logView) tab() string   { return "Log" }

func (v logView) write(m *markup) {
	m.raw("<p>Tokens that were handed out to programs of this machine, and what else happened to the connections of this project, in the last 30 days.</p>\n")
	v.proof(m)
	v.chart(m)
	if len(v.lines) == 0 {
		m.raw("<p class=\"empty\">Nothing is in the log.</p>\n")
		return
	}
	m.raw(`<h2 id="h-lines">Newest first</h2>
<div class="wide" tabindex="0" role="region" aria-labelledby="h-lines"><table>
<thead><tr><th scope="col">Time</th><th scope="col">Connection</th><th scope="col">Event</th><th scope="col">Tokens</th><th scope="col">Command</th><th scope="col">Program</th><th scope="col">Folder</th><th scope="col">Fingerprint</th></tr></thead>
<tbody>
`)
	for _, u := range v.lines {
		count := ""
		if u.Count > 0 {
			count = strconv.Itoa(u.Count)
		}
		m.put("<tr><td>", u.Time.Local().Format(time.DateTime), literal(`</td><th scope="row">`), u.Connection, literal("</th><td>"), u.Event,
			literal("</td><td>"), count, literal("</td><td>"), u.Purpose, literal("</td><td>"), u.Executable, literal("</td><td>"), u.Folder,
			literal("</td><td><code>"), u.Fingerprint, literal("</code></td></tr>\n"))
	}
	m.raw("</tbody></table></div>\n")
}

// proof says of each log whether it is what was written.
func (v logView) proof(m *markup) {
	if len(v.proofs) == 0 {
		return
	}
	m.raw(`<section aria-labelledby="h-proof"><h2 id="h-proof">Proof</h2>` + "\n<ul class=\"proof\">\n")
	for _, p := range v.proofs {
		m.put("<li><strong>", p.Connection, literal("</strong>: "))
		switch {
		case p.Problem != "":
			m.put(`the log <span class="mark warn">could not be proven</span> `, p.Problem)
		case p.Fault != "":
			m.put(`the log is <span class="mark bad">broken</span> at `, p.Fault)
			if p.More > 0 {
				m.put(", and at ", strconv.Itoa(p.More), literal(" more"))
			}
		default:
			m.put("the log is complete: ", lines(p.Lines))
		}
		if p.Former > 0 {
			m.put("; ", lines(p.Former), literal(" of a former connection, whose key is gone"))
		}
		m.raw("</li>\n")
	}
	m.raw("</ul>\n</section>\n")
}

func lines(n int) string {
	if n == 1 {
		return "1 line"
	}
	return strconv.Itoa(n) + " lines"
}

// chart draws a bar for each day. Its text is the same in words.
func (v logView) chart(m *markup) {
	const width, height, step = 720, 160, 24
	most, total := 0, 0
	for _, d := range v.days {
		most, total = max(most, d.uses), total+d.uses
	}
	if total == 0 {
		return
	}
	number := strconv.Itoa
	m.put(`<figure>
<svg viewBox="0 0 720 192" role="img" aria-labelledby="chart-title">
<title id="chart-title">`, number(total), literal(" tokens in 30 days, at most "), number(most), literal(` on a day</title>
<line class="axis" x1="0" y1="160.5" x2="720" y2="160.5"/>
`))
	for i, d := range v.days {
		if d.uses == 0 {
			continue
		}
		tall := max(2, (height-20)*d.uses/most)
		x, y := i*step, height-tall
		m.put(`<rect x="`, number(x+3), literal(`" y="`), number(y), literal(`" width="18" height="`), number(tall), literal(`" rx="2"><title>`),
			d.name, literal(": "), number(d.uses), literal("</title></rect>\n"))
		m.put(`<text x="`, number(x+step/2), literal(`" y="`), number(y-4), literal(`" text-anchor="middle" class="count">`), number(d.uses), literal("</text>\n"))
	}
	m.put(`<text x="0" y="179">`, v.days[0].name, literal(`</text><text x="`), number(width), literal(`" y="179" text-anchor="end">`),
		v.days[len(v.days)-1].name, literal("</text>\n</svg>\n<figcaption>Tokens handed out each day: "), number(total), literal(" in 30 days, at most "), number(most), literal(" on a day</figcaption>\n</figure>\n"))
}
