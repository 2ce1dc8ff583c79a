package oauth

import (
	"context"
	"time"

	"github.com/apiauth/apiauth/internal/secret"
)

// DeviceAuthorization is a device authorization response (RFC 8628 section
// 3.2), validated and cleaned for display.
type DeviceAuthorization struct {
	DeviceCode secret.Text
	UserCode   string
	// VerificationURI is where the person enters UserCode;
	// VerificationURIComplete, which may be empty, has the code in it.
	VerificationURI         string
	VerificationURIComplete string
	ExpiresIn               time.Duration // 1 s to 1 h, default 15 min
	Interval                time.Duration // between polls: 1 s to 60 s, default 5 s
}

// DeviceAuthorize asks for a device code (RFC 8628 section 3.1). The form holds
// scope and the provider's own parameters. Errors are those of PostToken and
// ParseToken.
func (h *HTTP) DeviceAuthorize(ctx context.Context, r TokenRequest) (DeviceAuthorization, error) {
	a, err := h.postForm(ctx, r, maxBody)
	if err != nil {
		return DeviceAuthorization{}, err
	}
	return parseDevice(a)
}

func parseDevice(a Answer) (DeviceAuthorization, error) {
	_, o, err := openAnswer(a, Rules{})
	if err != nil {
		return DeviceAuthorization{}, err
	}
	for _, name := range []string{"device_code", "user_code", "verification_uri", "verification_url", "verification_uri_complete"} {
		if o.repeated[name] {
			return DeviceAuthorization{}, unusablef("the device authorization response has %s twice", name)
		}
	}
	var d DeviceAuthorization
	if d.DeviceCode, err = o.credential("device_code"); err != nil {
		return DeviceAuthorization{}, err
	}
	if d.DeviceCode.IsZero() {
		return DeviceAuthorization{}, unusablef("the device authorization response has no device_code")
	}
	code, _ := o.text("user_code")
	if len(code) > 1024 {
		code = ""
	}
	if d.UserCode = Clean(code); d.UserCode == "" || len([]rune(d.UserCode)) > 64 {
		return DeviceAuthorization{}, unusablef("the device authorization response has no usable user_code")
	}
	uri, ok := o.text("verification_uri")
	if !ok {
		uri, _ = o.text("verification_url") // the draft's name, still sent by Google
	}
	if d.VerificationURI, err = CleanURL(uri); err != nil {
		return DeviceAuthorization{}, unusablef("the verification_uri of the response is refused: %s", err)
	}
	if o.has("verification_uri_complete") {
		uri, _ := o.text("verification_uri_complete")
		if d.VerificationURIComplete, err = CleanURL(uri); err != nil {
			return DeviceAuthorization{}, unusablef("the verification_uri_complete of the response is refused: %s", err)
		}
	}
	d.ExpiresIn = 15 * time.Minute
	if e, ok := o.seconds("expires_in", time.Hour); ok {
		d.ExpiresIn = max(e, time.Second)
	}
	d.Interval = o.interval()
	return d, nil
}

// interval reads the polling interval.
func (o object) interval() time.Duration {
	d, ok := o.seconds("interval", time.Minute)
	if !ok {
		return 5 * time.Second
	}
	return max(d, time.Second)
}
