package apicall

import (
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/apiauth/apiauth/internal/providers"
)

// walk follows a list and returns what was asked for, the items, and whether
// more would follow.
func (a *api) walk(t *testing.T, rules []providers.Pagination, most int) (items []string, more bool, err error) {
	t.Helper()
	err = a.Pages(t.Context(), a.request(t, "list?q=1"), rules, most, func(p Page) error {
		for _, item := range p.Items {
			items = append(items, string(item))
		}
		more = p.More
		return nil
	})
	return items, more, err
}

// Each style as the providers of the catalogue use it.
func TestPages(t *testing.T) {
	for _, c := range []struct {
		title string
		rules []providers.Pagination
		pages []http.HandlerFunc
		asked []string // after the first
		want  string
	}{
		{
			"link", []providers.Pagination{{Style: providers.PagesLink}},
			[]http.HandlerFunc{
				says(`[1,2]`, "Link", `<http://HOST/list?page=9>; rel="last"`, "Link", `</list?page=2>; title="a, <b>; rel=prev"; rel="prefetch next"`),
				says(`{"total_count":4,"items":[3,4]}`, "Link", `</list?page=1>; rel="first"`),
			},
			[]string{"/list?page=2"}, "1 2 3 4",
		},
		{
			"next_url, in an envelope", []providers.Pagination{{Style: providers.PagesNextURL, Next: "next", Items: "items"}},
			[]http.HandlerFunc{
				says(`{"tracks":{"next":"/list?offset=2","items":[{"a":1.0}],"other":[0]}}`),
				says(`{"tracks":{"next":null,"items":[{"a":2}]}}`),
			},
			[]string{"/list?offset=2"}, `{"a":1.0} {"a":2}`,
		},
		{
			"next_url with a dot in its name", []providers.Pagination{{Style: providers.PagesNextURL, Next: "@odata.nextLink", Items: "value"}},
			[]http.HandlerFunc{
				says(`{"@odata.nextLink":"/list?$top=1&$skiptoken=X'1","value":[1]}`),
				says(`{"value":[2]}`),
			},
			[]string{"/list?$top=1&$skiptoken=X'1"}, "1 2",
		},
		{
			"cursor, one page without items", []providers.Pagination{{Style: providers.PagesCursor, Next: "paging.next", Param: "pageToken"}},
			[]http.HandlerFunc{
				says(`{"kind":"x","paging":{"next":"a b&c"},"files":[1]}`),
				says(`{"kind":"x","paging":{"next":"d"}}`),
				says(`{"kind":"x","paging":{},"files":[2]}`),
			},
			[]string{"/list?pageToken=a+b%26c&q=1", "/list?pageToken=d&q=1"}, "1 2",
		},
		{
			"the only list in an object", []providers.Pagination{{Style: providers.PagesNextURL, Next: "_links.next.href", Items: "_embedded.*"}},
			[]http.HandlerFunc{
				says(`{"count":1,"_embedded":{"payments":[1]},"_links":{"next":{"href":"/list?from=2"}}}`),
				says(`{"count":1,"_embedded":{"payments":[2]},"_links":{"next":null}}`),
			},
			[]string{"/list?from=2"}, "1 2",
		},
		{
			"envelope in an envelope", []providers.Pagination{{Style: providers.PagesNumber, Param: "page", Pages: "pages"}},
			[]http.HandlerFunc{
				says(`{"response":{"result":{"clients":[1],"page":1,"pages":2}}}`),
				says(`{"response":{"result":{"clients":[2],"page":2,"pages":2}}}`),
			},
			[]string{"/list?page=2&q=1"}, "1 2",
		},
		{
			"an empty first page that goes on", []providers.Pagination{{Style: providers.PagesCursor, Next: "next", Param: "page"}},
			[]http.HandlerFunc{says(`{"next":"d"}`), says(`{"files":[2]}`)},
			[]string{"/list?page=d&q=1"}, "2",
		},
		{
			"last item", []providers.Pagination{{Style: providers.PagesLastItem, Next: "id", Param: "starting_after", More: "has_more", Items: "data"}},
			[]http.HandlerFunc{
				says(`{"data":[{"id":"a"},{"id":"b"}],"has_more":true,"object":"list"}`),
				says(`{"data":[{"id":"c"}],"has_more":false,"object":"list"}`),
			},
			[]string{"/list?q=1&starting_after=b"}, `{"id":"a"} {"id":"b"} {"id":"c"}`,
		},
		{
			"offset, with a page that is not full", []providers.Pagination{{Style: providers.PagesOffset, Param: "skip", Total: "total", Size: "limit", Items: "items"}},
			[]http.HandlerFunc{
				says(`{"total":5,"limit":2,"items":[1]}`),
				says(`{"total":5,"limit":2,"items":[3,4]}`),
				says(`{"total":5,"limit":2,"items":[5]}`),
			},
			[]string{"/list?q=1&skip=2", "/list?q=1&skip=4"}, "1 3 4 5",
		},
		{
			"the second rule", []providers.Pagination{
				{Style: providers.PagesCursor, Next: "next_marker", Param: "marker", Items: "entries"},
				{Style: providers.PagesOffset, Param: "offset", Total: "total_count", Items: "entries"},
			},
			[]http.HandlerFunc{says(`{"total_count":2,"entries":[1]}`), says(`{"total_count":2,"entries":[2]}`)},
			[]string{"/list?offset=1&q=1"}, "1 2",
		},
		{
			"last item up to an empty page", []providers.Pagination{{Style: providers.PagesLastItem, Next: "user.id", Param: "after"}},
			[]http.HandlerFunc{says(`[{"user":{"id":"7"}},{"user":{"id":"9"}}]`), says(`[{"user":{"id":"12"}}]`), says(`[]`)},
			[]string{"/list?after=9&q=1", "/list?after=12&q=1"}, `{"user":{"id":"7"}} {"user":{"id":"9"}} {"user":{"id":"12"}}`,
		},
		{
			"offset up to an empty page", []providers.Pagination{{Style: providers.PagesOffset, Param: "offset", Items: "data"}},
			[]http.HandlerFunc{says(`{"data":[1,2]}`), says(`{"data":[3]}`), says(`{"data":[]}`)},
			[]string{"/list?offset=2&q=1", "/list?offset=3&q=1"}, "1 2 3",
		},
		{
			"a list without pages", []providers.Pagination{{Style: providers.PagesNumber, Param: "page"}},
			[]http.HandlerFunc{says(`{"id":7,"clubs":[1,2]}`), says(`{"id":7,"clubs":[1,2]}`)},
			[]string{"/list?page=2&q=1"}, "1 2",
		},
		{
			"equal pages of a list that counts", []providers.Pagination{{Style: providers.PagesOffset, Param: "offset", Total: "total", Items: "data"}},
			[]http.HandlerFunc{says(`{"total":4,"data":[0,0]}`), says(`{"total":4,"data":[0,0]}`)},
			[]string{"/list?offset=2&q=1"}, "0 0 0 0",
		},
		{
			"a total that is not told", []providers.Pagination{{Style: providers.PagesOffset, Param: "offset", Total: "total", Items: "data"}},
			[]http.HandlerFunc{says(`{"data":[1,2]}`)}, nil, "1 2",
		},
		{
			"page numbers up to an empty page", []providers.Pagination{{Style: providers.PagesNumber, Param: "page"}},
			[]http.HandlerFunc{says(`[1,2]`), says(`[3]`), says(`[]`)},
			[]string{"/list?page=2&q=1", "/list?page=3&q=1"}, "1 2 3",
		},
		{
			"page numbers with their number", []providers.Pagination{{Style: providers.PagesNumber, Param: "page", Pages: "pagination.pageCount", Items: "invoices"}},
			[]http.HandlerFunc{
				says(`{"pagination":{"page":1,"pageCount":2},"invoices":[1,2]}`),
				says(`{"pagination":{"page":2,"pageCount":2},"invoices":[3]}`),
			},
			[]string{"/list?page=2&q=1"}, "1 2 3",
		},
		{
			"page numbers from zero", []providers.Pagination{{Style: providers.PagesNumber, Param: "page", Pages: "pages", FromZero: true, Items: "data"}},
			[]http.HandlerFunc{says(`{"pages":3,"data":[1]}`), says(`{"pages":3,"data":[2]}`), says(`{"pages":3,"data":[3]}`)},
			[]string{"/list?page=1&q=1", "/list?page=2&q=1"}, "1 2 3",
		},
		{
			"a page count that is not told", []providers.Pagination{{Style: providers.PagesNumber, Param: "page", Pages: "pages", Items: "data"}},
			[]http.HandlerFunc{says(`{"data":[1]}`)}, nil, "1",
		},
		{
			"an empty list", []providers.Pagination{{Style: providers.PagesOffset, Param: "skip", Total: "total", Items: "items"}},
			[]http.HandlerFunc{says(`{"total":9,"items":[]}`)}, nil, "",
		},
		{
			"one page", []providers.Pagination{{Style: providers.PagesLink}},
			[]http.HandlerFunc{says(` [] `)}, nil, "",
		},
	} {
		t.Run(c.title, func(t *testing.T) {
			a := newAPI(t, c.pages...)
			items, more, err := a.walk(t, c.rules, 100)
			if err != nil {
				t.Fatal(err)
			}
			want := []string{"GET /list?q=1"}
			for _, address := range c.asked {
				want = append(want, "GET "+address)
			}
			if !slices.Equal(a.seen, want) {
				t.Errorf("asked for %q, want %q", a.seen, want)
			}
			if got := strings.Join(items, " "); got != c.want || more {
				t.Errorf("items %s, more %v; want %s", got, more, c.want)
			}
		})
	}
}

// A list leads nowhere but to pinned hosts, over https outside of loopback, and
// never in a circle.
func TestPagesLeadNowhereElse(t *testing.T) {
	rules := []providers.Pagination{{Style: providers.PagesNextURL, Next: "next"}}
	for next, refused := range map[string]bool{
		"https://evil.example/list":            true,
		"//evil.example/list":                  true,
		"http://127.0.0.1.evil.example/list":   true,
		"http://evil.example:80/list":          true,
		"ftp://127.0.0.1/list":                 false,
		"http://user@127.0.0.1/":               false,
		"/list?q=1":                            false, // the first page again
		"http://127.0.0.1\\@evil.example/list": false,
	} {
		doc, err := json.Marshal(map[string]any{"next": next, "items": []int{1}})
		if err != nil {
			t.Fatal(err)
		}
		a := newAPI(t, says(string(doc)))
		_, _, err = a.walk(t, rules, 100)
		if err == nil || len(a.seen) != 1 {
			t.Errorf("%q: %d calls, %v", next, len(a.seen), err)
		}
		if _, is := errors.AsType[*RefusedError](err); refused && !is {
			t.Errorf("%q: %v", next, err)
		}
	}
}

func TestPagesHaveAnEnd(t *testing.T) {
	n := 0
	a := newAPI(t, func(w http.ResponseWriter, r *http.Request) {
		n++
		says(`{"items":[1],"next":"/list?n=`+strings.Repeat("x", n)+`"}`)(w, r)
	})
	items, more, err := a.walk(t, []providers.Pagination{{Style: providers.PagesNextURL, Next: "next"}}, 3)
	if err != nil || len(items) != 3 || !more {
		t.Errorf("%d items, more %v, %v", len(items), more, err)
	}
}

// What is no list is said, and a refusal is handed on as it came.
func TestPagesThatAreNone(t *testing.T) {
	rules := []providers.Pagination{{Style: providers.PagesLink}}
	for _, doc := range []string{`{"id":1}`, `{"a":[1],"b":[2]}`, `"x"`, `<html>`, ``, `[1`, `{"a":`, `null`} {
		a := newAPI(t, says(doc))
		if _, _, err := a.walk(t, rules, 9); err == nil {
			t.Errorf("%q is a list", doc)
		} else if _, ok := errors.AsType[*PageError](err); !ok {
			t.Errorf("%q: %v", doc, err)
		}
	}
	// A page that goes on, and whose items cannot be told, loses none silently.
	for _, doc := range []string{`{"_embedded":{"payments":[1]},"next":"/b"}`, `{"a":[1],"b":[2],"next":"/b"}`} {
		a := newAPI(t, says(doc))
		if _, _, err := a.walk(t, []providers.Pagination{{Style: providers.PagesNextURL, Next: "next"}}, 9); err == nil || len(a.seen) != 1 {
			t.Errorf("%s: %d calls, %v", doc, len(a.seen), err)
		}
	}
	a := newAPI(t, says(`[1]`, "Link", `</b>; rel=next`), status(500))
	var last Page
	err := a.Pages(t.Context(), a.request(t, "list"), rules, 9, func(p Page) error { last = p; return nil })
	if err != nil || last.Response.StatusCode != 500 || last.Items != nil {
		t.Errorf("%v", err)
	}
	if err := a.Pages(t.Context(), a.request(t, "list"), nil, 9, nil); err == nil {
		t.Error("paged without a rule")
	}
}

// One refusal of the token and the waits count over all pages.
func TestPagesShareOneBudget(t *testing.T) {
	a := newAPI(t, status(401), says(`[1]`, "Link", `</b>; rel=next`), status(401))
	var got int
	err := a.Pages(t.Context(), a.request(t, "list"), []providers.Pagination{{Style: providers.PagesLink}}, 9, func(p Page) error {
		got = p.Response.StatusCode
		return nil
	})
	if err != nil || got != 401 || a.renewed != 1 {
		t.Errorf("status %d, %d renewals, %v", got, a.renewed, err)
	}
}

func TestNextLink(t *testing.T) {
	for header, want := range map[string]string{
		`<a>; rel=next`:                        "a",
		`<a>; rel="next"`:                      "a",
		`<a>; REL="x NEXT"`:                    "a",
		`<a>;rel=prev,<b>;rel=next`:            "b",
		`<a>; rel=prev; rel=next, <b>`:         "",
		`<a,b>; rel=next`:                      "a,b",
		`<a>; title="x\",<z>; rel=next"`:       "",
		`<a>; title="<z>, y"; rel=next`:        "a",
		`<a>; anchor; rel = next`:              "a",
		`<a`:                                   "",
		``:                                     "",
		`<a>; rel="next`:                       "a",
		`<a>; rel=prev, junk, <b>; rel="next"`: "b",
		`<a>; rel=nextish`:                     "",
	} {
		if got := nextLink([]string{header}); got != want {
			t.Errorf("%s leads to %q, want %q", header, got, want)
		}
	}
}

func FuzzFollow(f *testing.F) {
	f.Add(`{"next":"/b","items":[{"id":1}],"has_more":true,"total":9}`, `</b>; rel="next"`)
	f.Add(`[1,2]`, `<http://x/>; a="b\"c"; rel=next, <d>`)
	rules := []providers.Pagination{
		{Style: providers.PagesLink}, {Style: providers.PagesNextURL, Next: "a.next"},
		{Style: providers.PagesCursor, Next: "next", Param: "p"},
		{Style: providers.PagesLastItem, Next: "id", Param: "p", More: "has_more", Items: "items"},
		{Style: providers.PagesOffset, Param: "skip", Total: "total", Size: "limit"},
	}
	f.Fuzz(func(t *testing.T, body, link string) {
		at := mustURL(t, "https://api.example.com/list?skip=1")
		items, next, err := follow(rules, http.Header{"Link": {link}}, []byte(body), at, true)
		if err != nil {
			return
		}
		if next != nil && (next.Host == "" || next.User != nil) {
			t.Fatalf("leads to %s", next)
		}
		for _, item := range items {
			if !json.Valid(item) {
				t.Fatalf("the item %q is no JSON", item)
			}
		}
	})
}
