package cli

import (
	"cmp"
	"errors"
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
		return printJSON(g.app.Stdout, lines)
	}
	if len(lines) == 0 {
		ws.say("Nothing is in the log for that time.")
		return nil
	}
	rows := [][]string{{"TIME", "CONNECTION", "EVENT", "PURPOSE", "PROGRAM", "FOLDER", "TOKEN"}}
	for _, l := range lines {
		event := l.Event
		switch {
		case l.Count > 1 || l.Refused+l.Failed > 0:
			event = l.calls()
		case l.Detail != "":
			event += ": " + l.Detail
		}
		rows = append(rows, []string{l.Time.Local().Format(time.DateTime), l.Connection, event, l.Purpose, l.Executable, l.Folder, l.Fingerprint})
	}
	return printTable(g.app.Stdout, rows...)
}

// calls says in words how many calls a line is about, and what came of them.
func (l *auditLineJSON) calls() string {
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
func (ws *workspace) logLines(names []string, since time.Time) ([]auditLineJSON, error) {
	lines := []auditLineJSON{}
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
		for i := range h.Lines {
			l := &h.Lines[i].Entry
			if l.Time.Before(since) {
				continue
			}
			lines = append(lines, auditLineJSON{
				Time: l.Time, Connection: name, Event: l.Event, Purpose: l.Purpose, Count: l.Count, Refused: l.Refused, Failed: l.Failed,
				Executable: l.Caller, Folder: l.Folder, Fingerprint: l.Print, Detail: l.Detail,
			})
		}
	}
	slices.SortStableFunc(lines, func(a, b auditLineJSON) int {
		return cmp.Or(a.Time.Compare(b.Time), cmp.Compare(a.Connection, b.Connection))
	})
	return lines, nil
}
