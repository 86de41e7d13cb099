# What Sidekiq works: each job counts itself.

require "sidekiq"

# A hash tag keeps all of Sidekiq's keys on one node: its transactions take several.
connection = {url: "redis://#{ENV.fetch("REDIS_AT")}/0", namespace: ENV.fetch("NAMESPACE")}
Sidekiq.configure_client { |config| config.redis = connection }
Sidekiq.configure_server do |config|
  config.redis = connection
  Sidekiq.options[:poll_interval_average] = 0.2
end
Sidekiq.logger.level = Logger::FATAL
Redis.sadd_returns_boolean = false # which Sidekiq does not read

class Job
  include Sidekiq::Job

  def perform(n)
    Sidekiq.redis { |r| r.hincrby("seen", n, 1) }
  end
end
