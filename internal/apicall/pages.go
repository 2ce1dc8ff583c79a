package apicall

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/apiauth/apiauth/internal/oauth"
	"github.com/apiauth/apiauth/internal/providers"
)

// maxPage is the largest answer that is read into memory: 32 MiB.
const maxPage = 32 << 20

// PageError says that an answer is no page of a list, or leads nowhere.
type PageError struct{ Msg string }

func (e *PageError) Error() string { return e.Msg }

// Page is one page of a list.
type Page struct {
	Response *http.Response // its body is read and closed
	Body     []byte
	Items    []json.RawMessage // nil when the answer is no success
	More     bool              // another page follows
}

// Pages calls each with the pages of a list, most times, the first being the
// answer to r. How one leads to the next is what rules say; of several rules the
// first that finds a next page holds. An answer that is no success is the last
// page, without items. Every address is held to the pinned hosts.
func (c *Caller) Pages(ctx context.Context, r Request, rules []providers.Pagination, most int, each func(Page) error) error {
	if len(rules) == 0 {
		return &RequestError{Msg: "the provider's definition does not say how its lists go on", Hint: "ask for each page by its own parameters, without --paginate"}
	}
	var seen []string
	var before []json.RawMessage
	for n := 1; ; n++ {
		seen = append(seen, r.URL.String())
		resp, err := c.Do(ctx, r) //nolint:bodyclose // ReadAnswer closes it
		if err != nil {
			return err
		}
		body, err := ReadAnswer(resp)
		if err != nil {
			return err
		}
		if resp.StatusCode/100 != 2 {
			return each(Page{Response: resp, Body: body})
		}
		items, next, err := follow(rules, resp.Header, body, r.URL, n == 1)
		if err != nil {
			return err
		}
		if n > 1 && openEnded(rules) && slices.EqualFunc(items, before, func(a, b json.RawMessage) bool { return bytes.Equal(a, b) }) {
			items, next = []json.RawMessage{}, nil // the list has no pages: the one before was all of it
		}
		before = items
		if next != nil {
			if err := allowed(c.Pins, next, next.String()); err != nil {
				return err
			}
			if slices.Contains(seen, next.String()) {
				return &PageError{"the list leads back to a page that was there already"}
			}
		}
		if err := each(Page{resp, body, items, next != nil}); err != nil || next == nil || n >= most {
			return err
		}
		r.URL = next
	}
}

// openEnded reports whether only an empty page ends a list. A list that does not
// know the parameter comes as a whole, again and again.
func openEnded(rules []providers.Pagination) bool {
	return slices.ContainsFunc(rules, func(rule providers.Pagination) bool {
		switch rule.Style {
		case providers.PagesLastItem:
			return rule.More == ""
		case providers.PagesOffset:
			return rule.Total == ""
		case providers.PagesNumber:
			return rule.Pages == ""
		}
		return false
	})
}

// ReadAnswer reads an answer that has to be understood as a whole, of 32 MiB at
// most, and closes it.
func ReadAnswer(resp *http.Response) ([]byte, error) {
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxPage+1))
	if err != nil {
		return nil, &UnreachableError{resp.Request.URL.Host, fmt.Errorf("read the answer: %w", err)}
	}
	if len(body) > maxPage {
		return nil, &PageError{"the answer is longer than 32 MiB, which is too long to be taken apart"}
	}
	return body, nil
}

// follow takes a page apart: its items, and the address of the next page, nil
// after the last one.
func follow(rules []providers.Pagination, h http.Header, body []byte, at *url.URL, first bool) ([]json.RawMessage, *url.URL, error) {
	doc, err := parsePage(body)
	if err != nil {
		return nil, nil, err
	}
	var items []json.RawMessage
	found := false
	for _, rule := range rules {
		if items, found = doc.items(rule.Items); found {
			break
		}
	}
	var next *url.URL
	for _, rule := range rules {
		if next, err = doc.next(rule, h, at, items); err != nil {
			return nil, nil, err
		}
		if next != nil {
			break
		}
	}
	// A list that is empty may be left out, and go on all the same.
	if !found && first && (next == nil || doc.holdsLists()) {
		return nil, nil, &PageError{"the answer is no list, or has several: ask for it without --paginate"}
	}
	return orNone(items), next, nil
}

func orNone(items []json.RawMessage) []json.RawMessage {
	if items == nil {
		return []json.RawMessage{}
	}
	return items
}

// page is the JSON of a page: a list, or an object that holds one.
type page struct {
	list   []json.RawMessage
	object map[string]json.RawMessage
}

func parsePage(body []byte) (page, error) {
	var doc page
	var err error
	switch body = bytes.TrimSpace(body); {
	case len(body) > 0 && body[0] == '[':
		err = json.Unmarshal(body, &doc.list)
	case len(body) > 0 && body[0] == '{':
		err = json.Unmarshal(body, &doc.object)
	default:
		return page{}, &PageError{"the answer is no JSON list or object"}
	}
	if err != nil {
		return page{}, &PageError{"the answer is no JSON"}
	}
	// Envelopes such as {"tracks": {"items": …}} are opened.
	for range 3 {
		inner := doc.envelope()
		if inner == nil {
			break
		}
		doc.object = inner
	}
	return doc, nil
}

// envelope returns the object that is all that an object holds, else nil.
func (p page) envelope() map[string]json.RawMessage {
	if len(p.object) != 1 {
		return nil
	}
	var inner map[string]json.RawMessage
	for _, only := range p.object {
		if json.Unmarshal(only, &inner) != nil {
			return nil
		}
	}
	return inner
}

// items returns the list at path; without a path it is the page itself, or the
// only array of the object. A path that ends with .* means the only array of the
// object that it leads to.
func (p page) items(path string) ([]json.RawMessage, bool) {
	if p.object == nil {
		return p.list, true
	}
	var list []json.RawMessage
	object := p.object
	if within, ok := strings.CutSuffix(path, ".*"); ok {
		object = nil
		if json.Unmarshal(p.field(within), &object) != nil {
			return nil, false
		}
	} else if path != "" {
		return list, json.Unmarshal(p.field(path), &list) == nil && list != nil
	}
	found := false
	for _, value := range object {
		var some []json.RawMessage
		if json.Unmarshal(value, &some) != nil || some == nil {
			continue
		}
		if found {
			return nil, false
		}
		list, found = some, true
	}
	return list, found
}

// holdsLists reports whether there are lists in the object or one level below.
func (p page) holdsLists() bool {
	isList := func(value json.RawMessage) bool {
		var list []json.RawMessage
		return json.Unmarshal(value, &list) == nil && list != nil
	}
	for _, value := range p.object {
		var below map[string]json.RawMessage
		if isList(value) || json.Unmarshal(value, &below) == nil && slices.ContainsFunc(slices.Collect(maps.Values(below)), isList) {
			return true
		}
	}
	return false
}

// field returns the value at a path of names with dots between them; a name
// that has dots itself is found first, such as @odata.nextLink.
func (p page) field(path string) json.RawMessage { return lookUp(p.object, path) }

func lookUp(object map[string]json.RawMessage, path string) json.RawMessage {
	if value, ok := object[path]; ok {
		return value
	}
	name, rest, nested := strings.Cut(path, ".")
	var below map[string]json.RawMessage
	if !nested || json.Unmarshal(object[name], &below) != nil {
		return nil
	}
	return lookUp(below, rest)
}

// text returns a string or number at a path, "" for anything else.
func text(raw json.RawMessage) string {
	var s string
	if json.Unmarshal(raw, &s) == nil {
		return s
	}
	var n json.Number
	if json.Unmarshal(raw, &n) == nil {
		return n.String()
	}
	return ""
}

func number(raw json.RawMessage) (int, bool) {
	n, err := strconv.Atoi(text(raw))
	return n, err == nil && n >= 0
}

// next returns the address of the page after this one, nil when there is none.
func (p page) next(rule providers.Pagination, h http.Header, at *url.URL, items []json.RawMessage) (*url.URL, error) {
	switch rule.Style {
	case providers.PagesLink:
		return resolve(at, nextLink(h.Values("Link")))
	case providers.PagesNextURL:
		return resolve(at, text(p.field(rule.Next)))
	case providers.PagesCursor:
		return withParam(at, rule.Param, text(p.field(rule.Next))), nil
	case providers.PagesLastItem:
		more := rule.More == ""
		if !more && json.Unmarshal(p.field(rule.More), &more) != nil || !more || len(items) == 0 {
			return nil, nil
		}
		var last map[string]json.RawMessage
		if json.Unmarshal(items[len(items)-1], &last) != nil {
			return nil, nil
		}
		return withParam(at, rule.Param, text(lookUp(last, rule.Next))), nil
	case providers.PagesOffset:
		total, known := number(p.field(rule.Total))
		offset, err := strconv.Atoi(at.Query().Get(rule.Param))
		if err != nil {
			offset = 0
		}
		size, sized := number(p.field(rule.Size))
		if !sized || size < len(items) {
			size = len(items)
		}
		if len(items) == 0 || offset < 0 || offset > math.MaxInt-size || rule.Total != "" && (!known || offset+size >= total) {
			return nil, nil
		}
		return withParam(at, rule.Param, strconv.Itoa(offset+size)), nil
	case providers.PagesNumber:
		first := 1
		if rule.FromZero {
			first = 0
		}
		number, err := strconv.Atoi(at.Query().Get(rule.Param))
		if err != nil {
			number = first
		}
		if len(items) == 0 || number < first || rule.Pages != "" && number-first+1 >= p.pages(rule) {
			return nil, nil
		}
		return withParam(at, rule.Param, strconv.Itoa(number+1)), nil
	}
	return nil, nil
}

// pages is the number of all pages, 0 where the answer does not tell.
func (p page) pages(rule providers.Pagination) int {
	n, _ := number(p.field(rule.Pages))
	return n
}

// withParam is at with one parameter replaced, nil for an empty value.
func withParam(at *url.URL, param, value string) *url.URL {
	if value == "" {
		return nil
	}
	next := *at
	q := next.Query()
	q.Set(param, value)
	next.RawQuery = q.Encode()
	return &next
}

// resolve reads an address that an answer gave.
func resolve(at *url.URL, reference string) (*url.URL, error) {
	if reference == "" {
		return nil, nil
	}
	next, err := at.Parse(reference)
	if err != nil || next.User != nil || next.Host == "" {
		return nil, &PageError{fmt.Sprintf("the next page is at %q, which is no address", oauth.Clean(reference))}
	}
	return next, nil
}

// nextLink finds the target of rel="next" in Link headers (RFC 8288 section 3).
func nextLink(headers []string) string {
	for _, rest := range headers {
		for {
			_, after, found := strings.Cut(rest, "<")
			if !found {
				break
			}
			target, params, found := strings.Cut(after, ">")
			if !found {
				break
			}
			var rels []string
			rels, rest = linkRels(params)
			if slices.ContainsFunc(rels, func(rel string) bool { return strings.EqualFold(rel, "next") }) {
				return target
			}
		}
	}
	return ""
}

// linkRels reads the parameters of one link up to the comma that ends it, and
// returns its relation types and what follows.
func linkRels(s string) (rels []string, rest string) {
	for {
		s = strings.TrimLeft(s, " \t")
		if s == "" || s[0] != ';' {
			return rels, strings.TrimPrefix(s, ",")
		}
		s = strings.TrimLeft(s[1:], " \t")
		end := strings.IndexAny(s, "=;,")
		if end < 0 {
			return rels, ""
		}
		name := strings.TrimSpace(s[:end])
		if s[end] != '=' {
			s = s[end:]
			continue
		}
		var value string
		value, s = linkValue(strings.TrimLeft(s[end+1:], " \t"))
		if strings.EqualFold(name, "rel") && rels == nil {
			rels = strings.Fields(value)
		}
	}
}

// linkValue reads a token or a quoted string.
func linkValue(s string) (value, rest string) {
	if !strings.HasPrefix(s, `"`) {
		if end := strings.IndexAny(s, ";,"); end >= 0 {
			return strings.TrimSpace(s[:end]), s[end:]
		}
		return strings.TrimSpace(s), ""
	}
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '"':
			return b.String(), s[i+1:]
		case '\\':
			if i++; i == len(s) {
				return b.String(), ""
			}
		}
		b.WriteByte(s[i])
	}
	return b.String(), ""
}
