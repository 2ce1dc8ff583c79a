require "json"
require "net/http"

uri = URI(ENV["API"] + "/me")
answer = Net::HTTP.start(uri.host, uri.port, use_ssl: true) do |http|
  http.request(Net::HTTP::Get.new(uri, "Authorization" => "Bearer " + ENV["SANDBOX_ACCESS_TOKEN"]))
end
abort "#{answer.code} #{answer.body}" unless answer.code == "200"
puts JSON.parse(answer.body)["name"]
