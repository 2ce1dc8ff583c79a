package cli

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/apiauth/apiauth/internal/oauth"
)

// printJSON writes data for programs: indented, with a final line end, and
// without the escapes that only HTML needs.
func printJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(v); err != nil {
		return fmt.Errorf("write the answer: %w", err)
	}
	return nil
}

// printTable writes rows for people in aligned columns. The first row is the
// head; cells are cleaned, and an empty one is shown as a hyphen. Package tabwriter
// does the same, many times slower.
func printTable(w io.Writer, rows ...[]string) error {
	var widths []int
	for _, row := range rows {
		widths = append(widths, make([]int, max(0, len(row)-len(widths)))...)
		for i, text := range row {
			row[i] = cmp.Or(oauth.Clean(text), "-")
			widths[i] = max(widths[i], utf8.RuneCountInString(row[i]))
		}
	}
	blanks := strings.Repeat(" ", slices.Max(append(widths, 0))+2)
	var doc []byte
	for n, row := range rows {
		for i, text := range row {
			doc = append(doc, text...)
			if i < len(row)-1 {
				doc = append(doc, blanks[:widths[i]-utf8.RuneCountInString(text)+2]...)
			}
		}
		doc = append(doc, '\n')
		if len(doc) > 64<<10 || n == len(rows)-1 {
			if _, err := w.Write(doc); err != nil {
				return fmt.Errorf("write the answer: %w", err)
			}
			doc = doc[:0]
		}
	}
	return nil
}

// wrap breaks a text for people into lines of at most width characters, as far
// as its words allow.
func wrap(text string, width int) []string {
	var lines []string
	line := ""
	for _, word := range strings.Fields(text) {
		switch {
		case line == "":
			line = word
		case len([]rune(line))+1+len([]rune(word)) > width:
			lines = append(lines, line)
			line = word
		default:
			line += " " + word
		}
	}
	if line != "" {
		lines = append(lines, line)
	}
	return lines
}

// orEmpty makes a list that is [] and not null in JSON.
func orEmpty[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

// plural counts things for people: "1 connection", "2 connections".
func plural(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}
