package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/apiauth/apiauth/internal/audit"
	"github.com/apiauth/apiauth/internal/connection"
)

type auditLogOptions struct {
	Names []string
	Since string
}

func newAuditLogCmd(g *globals) *cobra.Command {
	var opts auditLogOptions
	cmd := &cobra.Command{
		Use:   "log [NAME...]",
		Short: "Show who got which token, and when",
		Long: `Show the lines of the audit log, oldest first: time, connection, what happened, for
which command, by which program and from which folder. A fingerprint tells one
token from another; it says nothing about the token.

The log of a connection outlives it, until 'apiauth reset'.`,
		ValidArgsFunction: completeConnections(g),
		RunE: func(_ *cobra.Command, names []string) error {
			opts.Names = names
			return runAuditLog(g, opts)
		},
	}
	cmd.Flags().StringVar(&opts.Since, "since", "30d", "show what is not older than this `time`, such as 7d or 12h")
	return cmd
}

// auditLineJSON is version 1 of a line that audit log --json prints.
type auditLineJSON struct {
	Time        time.Time `json:"time"`
	Connection  string    `json:"connection"`
	Event       string    `json:"event"`
	Purpose     string    `json:"purpose,omitempty"`
	Count       int       `json:"count,omitempty"`
	Refused     int       `json:"refused,omitempty"`
	Failed      int       `json:"failed,omitempty"`
	Executable  string    `json:"executable,omitempty"`
	Folder      string    `json:"folder,omitempty"`
	Fingerprint string    `json:"fingerprint,omitempty"`
	Detail      string    `json:"detail,omitempty"`
}

func runAuditLog(g *globals, opts auditLogOptions) error {
	span, err := parseSpan("--since", opts.Since)
	if err != nil {
		return err
	}
	if err := checkNames(opts.Names); err != nil {
		return err
	}
	ws, err := g.workspace()
	if err != nil {
		return err
	}
	lines, err := ws.logLines(opts.Names, ws.app.Now().Add(-span))
	if err != nil {
		return err
	}
	if ws.cfg.JSON {
		return printLogJSON(g.app.Stdout, lines)
	}
	if len(lines) == 0 {
		ws.say("Nothing is in the log for that time.")
		return nil
	}
	rows := make([][]string, 0, len(lines)+1)
	rows = append(rows, []string{"TIME", "CONNECTION", "EVENT", "PURPOSE", "PROGRAM", "FOLDER", "TOKEN"})
	for _, l := range lines {
		event := l.Event
		switch {
		case l.Count > 1 || l.Refused+l.Failed > 0:
			event = l.calls()
		case l.Detail != "":
			event += ": " + l.Detail
		}
		rows = append(rows, []string{l.Time.Local().Format(time.DateTime), l.connection, event, l.Purpose, l.Caller, l.Folder, l.Print})
	}
	return printTable(g.app.Stdout, rows...)
}

// logLine is a line of one of several logs.
type logLine struct {
	*audit.Entry
	connection string
}

// calls says in words how many calls a line is about, and what came of them.
func (l logLine) calls() string {
	var parts []string
	if l.Count > 0 {
		parts = append(parts, plural(l.Count, "call"))
	}
	if l.Refused > 0 {
		parts = append(parts, strconv.Itoa(l.Refused)+" refused")
	}
	if l.Failed > 0 {
		parts = append(parts, strconv.Itoa(l.Failed)+" failed")
	}
	return strings.Join(parts, ", ")
}

// logLines reads the lines of the named connections, or of all that have a log.
func (ws *workspace) logLines(names []string, since time.Time) ([]logLine, error) {
	var lines []logLine
	if _, err := ws.bound(); err != nil {
		return nil, err
	}
	s, err := ws.store()
	if errors.Is(err, errNoStore) {
		return lines, nil
	}
	if err != nil {
		return nil, err
	}
	logs, err := s.AuditNames(ws.projectID)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		if _, err := s.Header(connection.Key{Project: ws.projectID, Name: name}); err != nil && !slices.Contains(logs, name) {
			return nil, ws.notConnected(name)
		}
	}
	for _, name := range logs {
		if len(names) > 0 && !slices.Contains(names, name) {
			continue
		}
		path, err := s.AuditPath(connection.Key{Project: ws.projectID, Name: name})
		if err != nil {
			return nil, err
		}
		h, err := (&audit.Log{Path: path}).Read()
		if err != nil {
			return nil, failf(exitStore, "'apiauth doctor' looks at the files", "%w", err)
		}
		own := make([]logLine, 0, len(h.Lines))
		for i := range h.Lines {
			if l := &h.Lines[i].Entry; !l.Time.Before(since) {
				own = append(own, logLine{l, name})
			}
		}
		lines = merge(lines, own)
	}
	return lines, nil
}

// merge puts the lines of two logs in order of time. Those of one log stay in the
// order in which they were written.
func merge(a, b []logLine) []logLine {
	if len(a) == 0 {
		return b
	}
	all := make([]logLine, 0, len(a)+len(b))
	for len(a) > 0 && len(b) > 0 {
		if b[0].Time.Before(a[0].Time) {
			all, b = append(all, b[0]), b[1:]
		} else {
			all, a = append(all, a[0]), a[1:]
		}
	}
	return append(append(all, a...), b...)
}

// printLogJSON prints lines as printJSON prints a list of auditLineJSON, in a
// tenth of the time: of a hundred thousand lines most texts were there before.
func printLogJSON(w io.Writer, lines []logLine) error {
	if len(lines) == 0 {
		return printJSON(w, []auditLineJSON{})
	}
	out := logWriter{w: w, texts: map[string][]byte{}}
	begin := "[\n  {\n"
	for i := range lines {
		l := &lines[i]
		out.doc = append(append(out.doc, begin...), `    "time": "`...)
		out.doc = append(l.Time.AppendFormat(out.doc, time.RFC3339Nano), '"')
		out.text("connection", l.connection, true)
		out.text("event", l.Event, true)
		out.text("purpose", l.Purpose, false)
		out.number("count", l.Count)
		out.number("refused", l.Refused)
		out.number("failed", l.Failed)
		out.text("executable", l.Caller, false)
		out.text("folder", l.Folder, false)
		out.text("fingerprint", l.Print, false)
		out.text("detail", l.Detail, false)
		out.doc = append(out.doc, "\n  }"...)
		if err := out.flush(64 << 10); err != nil {
			return err
		}
		begin = ",\n  {\n"
	}
	out.doc = append(out.doc, "\n]\n"...)
	return out.flush(0)
}

// logWriter writes members of JSON objects.
type logWriter struct {
	w     io.Writer
	doc   []byte            // not written yet
	texts map[string][]byte // as JSON
}

func (w *logWriter) flush(above int) error {
	if len(w.doc) <= above {
		return nil
	}
	if _, err := w.w.Write(w.doc); err != nil {
		return fmt.Errorf("write the answer: %w", err)
	}
	w.doc = w.doc[:0]
	return nil
}

func (w *logWriter) name(name string) {
	w.doc = append(append(append(w.doc, ",\n    \""...), name...), `": `...)
}

func (w *logWriter) text(name, text string, always bool) {
	if text == "" && !always {
		return
	}
	encoded, ok := w.texts[text]
	if !ok {
		var b bytes.Buffer
		enc := json.NewEncoder(&b)
		enc.SetEscapeHTML(false)
		_ = enc.Encode(text) // texts can be encoded, and memory be written
		encoded = bytes.TrimSuffix(b.Bytes(), []byte("\n"))
		w.texts[text] = encoded
	}
	w.name(name)
	w.doc = append(w.doc, encoded...)
}

func (w *logWriter) number(name string, n int) {
	if n == 0 {
		return
	}
	w.name(name)
	w.doc = strconv.AppendInt(w.doc, int64(n), 10)
}
