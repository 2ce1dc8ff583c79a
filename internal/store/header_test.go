package store

import (
	"encoding/json"
	"reflect"
	"testing"
	"time"

	"github.com/apiauth/apiauth/internal/connection"
	"github.com/apiauth/apiauth/internal/providers"
)

// populate sets everything below v to something that is not zero.
func populate(v reflect.Value, n *int64) {
	*n++
	if at, ok := v.Addr().Interface().(*time.Time); ok {
		*at = time.Date(2026, 11, 21, 12, 0, int(*n), 0, time.UTC)
		return
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString("text \"\\ \u00e4 " + string(rune('a'+*n%26)))
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64:
		v.SetInt(*n)
	case reflect.Uint64:
		v.SetUint(uint64(*n))
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		populate(v.Index(0), n)
		populate(v.Index(1), n)
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		item := reflect.New(v.Type().Elem()).Elem()
		populate(item, n)
		v.SetMapIndex(reflect.ValueOf("key").Convert(v.Type().Key()), item)
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		populate(v.Elem(), n)
	case reflect.Struct:
		for i := range v.NumField() {
			populate(v.Field(i), n)
		}
	default:
		panic("a kind that decodeHeader does not know: " + v.Type().String())
	}
}

// TestDecodeHeader compares with package json, which decides.
func TestDecodeHeader(t *testing.T) {
	var everything connection.Header
	n := int64(0)
	populate(reflect.ValueOf(&everything).Elem(), &n)
	headers := []connection.Header{{}, everything}
	list, err := providers.Open("").List()
	if err != nil {
		t.Fatal(err)
	}
	for _, def := range list {
		pins, err := def.Pin(providers.PinOptions{Flow: connection.FlowBrowser, ClientID: "id", HasSecret: true})
		if err != nil {
			continue // wants variables
		}
		headers = append(headers, connection.Header{Format: 1, Name: def.ID, Pins: pins, ReceivedAt: time.Now()})
	}
	for _, h := range headers {
		doc, err := json.Marshal(h)
		if err != nil {
			t.Fatal(err)
		}
		var values map[string]any
		if err := json.Unmarshal(doc, &values); err != nil {
			t.Fatal(err)
		}
		var short, want, got connection.Header
		if !setFields(reflect.ValueOf(&short).Elem(), values) {
			t.Errorf("%s took the long way", h.Name)
		}
		if err := json.Unmarshal(doc, &want); err != nil {
			t.Fatal(err)
		}
		if err := decodeHeader(doc, &got); err != nil || !reflect.DeepEqual(got, want) || !reflect.DeepEqual(short, want) {
			t.Errorf("%s: %v\ngot  %+v\nwant %+v", h.Name, err, got, want)
		}
	}
	for _, doc := range []string{
		`{"generation":18446744073709551615}`, `{"generation":-1}`, `{"generation":1.5}`, `{"generation":"1"}`, `{"ttl":-5}`,
		`{"name":null}`, `{"NAME":"a"}`, `{"unknown":1}`, `{"received_at":"yesterday"}`, `{"received_at":5}`, `{"pins":[]}`, `{"pins":null}`,
		`{"pins":{"api_hosts":["a",null]}}`, `{"pins":{"api_hosts":{}}}`, `{"pins":{"variables":{"a":1}}}`, `{"has_refresh":1}`, `null`, `[]`, `{`, ``, `{"":1}`,
	} {
		var got, want connection.Header
		err := decodeHeader([]byte(doc), &got)
		werr := json.Unmarshal([]byte(doc), &want)
		if (err == nil) != (werr == nil) || err == nil && !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %v, want %v\ngot  %+v\nwant %+v", doc, err, werr, got, want)
		}
	}
}
