// What does a stock SPIFFE client in Java see of the broker?
// A program of its own: it carries out orders, one JSON object a line on standard input, and answers
// each on standard output, with nothing but java-spiffe in between. What a watch hears comes as an
// event, when it comes.
// Which answers are right is for the tests to say (../java.test.ts).
import com.google.gson.Gson;
import com.google.gson.JsonObject;
import io.grpc.StatusRuntimeException;
import io.spiffe.spiffeid.SpiffeId;
import io.spiffe.svid.jwtsvid.JwtSvid;
import io.spiffe.svid.x509svid.X509Svid;
import io.spiffe.svid.x509svid.X509SvidValidator;
import io.spiffe.workloadapi.DefaultWorkloadApiClient;
import io.spiffe.workloadapi.DefaultX509Source;
import io.spiffe.workloadapi.Watcher;
import io.spiffe.workloadapi.WorkloadApiClient;
import io.spiffe.workloadapi.X509Context;
import io.spiffe.workloadapi.retry.ExponentialBackoffPolicy;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.concurrent.ConcurrentHashMap;
import java.util.logging.Level;
import java.util.logging.Logger;

public class Client {
  static final Gson gson = new Gson();
  static final Map<String, DefaultX509Source> sources = new ConcurrentHashMap<>();

  public static void main(String[] args) throws Exception {
    Logger.getLogger("").setLevel(Level.OFF);
    System.out.println("{\"event\":\"started\",\"code\":\"OK\"}");
    BufferedReader lines = new BufferedReader(new InputStreamReader(System.in));
    for (String line = lines.readLine(); line != null; line = lines.readLine()) {
      JsonObject order = gson.fromJson(line, JsonObject.class);
      new Thread(() -> {
        JsonObject answer = new JsonObject();
        answer.add("id", order.get("id"));
        try {
          say(answer, null, carryOut(order));
        } catch (Exception error) {
          say(answer, error, null);
        }
      }).start();
    }
    System.exit(0);
  }

  static Object carryOut(JsonObject order) throws Exception {
    String socket = text(order, "socket"), audience = text(order, "audience"), token = text(order, "token"), name = text(order, "source");
    ExponentialBackoffPolicy impatient = ExponentialBackoffPolicy.builder().maxRetries(1).build();
    WorkloadApiClient client = DefaultWorkloadApiClient.newClient(
        DefaultWorkloadApiClient.ClientOptions.builder().spiffeSocketPath(socket).exponentialBackoffPolicy(impatient).build());
    switch (text(order, "do")) {
      case "x509":
        return described(client.fetchX509Context());
      case "x509-bundles": {
        Map<String, Integer> authorities = new TreeMap<>();
        client.fetchX509Bundles().getBundles().forEach((domain, bundle) -> authorities.put(domain.getName(), bundle.getX509Authorities().size()));
        return authorities;
      }
      case "jwt":
        return jwt(order.has("spiffeId") ? client.fetchJwtSvid(SpiffeId.parse(text(order, "spiffeId")), audience) : client.fetchJwtSvid(audience));
      case "jwts":
        return client.fetchJwtSvids(audience).stream().map(Client::jwt).toList();
      case "jwt-bundles": {
        Map<String, Integer> authorities = new TreeMap<>();
        client.fetchJwtBundles().getBundles().forEach((domain, bundle) -> authorities.put(domain.getName(), bundle.getJwtAuthorities().size()));
        return authorities;
      }
      case "jwt-validate":
        return jwt(client.validateJwtSvid(token, audience));
      case "jwt-verify":
        return jwt(JwtSvid.parseAndValidate(token, client.fetchJwtBundles(), Set.of(audience)));
      case "watch":
        client.watchX509Context(new Watcher<X509Context>() {
          public void onUpdate(X509Context update) {
            JsonObject event = event("update", name);
            try {
              say(event, null, described(update));
            } catch (Exception error) {
              say(event, error, null);
            }
          }
          public void onError(Throwable error) {
            say(event("lost", name), error, null);
          }
        });
        return null;
      case "source":
        sources.put(name, DefaultX509Source.newSource(DefaultX509Source.X509SourceOptions.builder().spiffeSocketPath(socket).build()));
        return describe(sources.get(name).getX509Svid());
      case "source-svid":
        return describe(sources.get(name).getX509Svid());
      default:
        throw new IllegalArgumentException("no such order: " + text(order, "do"));
    }
  }

  static String text(JsonObject order, String field) {
    return order.has(field) ? order.get(field).getAsString() : "";
  }

  /** The SVIDs, each verified by the bundles that came with it. */
  static List<Map<String, Object>> described(X509Context context) throws Exception {
    List<Map<String, Object>> all = new ArrayList<>();
    for (X509Svid svid : context.getX509Svids()) {
      X509SvidValidator.verifyChain(svid.getChain(), context.getX509BundleSet());
      all.add(describe(svid));
    }
    return all;
  }

  static Map<String, Object> describe(X509Svid svid) {
    return Map.of("id", svid.getSpiffeId().toString(), "hint", svid.getHint(), "serial", svid.getLeaf().getSerialNumber().toString(16), "certificates", svid.getChain().size());
  }

  static Map<String, Object> jwt(JwtSvid svid) {
    return Map.of("id", svid.getSpiffeId().toString(), "hint", svid.getHint() == null ? "" : svid.getHint(), "token", svid.getToken(), "audience", svid.getAudience());
  }

  static JsonObject event(String event, String of) {
    JsonObject said = new JsonObject();
    said.addProperty("event", event);
    said.addProperty("of", of);
    return said;
  }

  static void say(JsonObject what, Throwable error, Object result) {
    what.addProperty("code", codeOf(error));
    if (error != null) what.addProperty("error", rootOf(error).toString());
    what.add("result", gson.toJsonTree(result));
    synchronized (System.out) {
      System.out.println(gson.toJson(what));
    }
  }

  static Throwable rootOf(Throwable error) {
    return error.getCause() == null ? error : rootOf(error.getCause());
  }

  /** The gRPC status that java-spiffe wrapped; LOCAL for what never came off the wire. */
  static String codeOf(Throwable error) {
    if (error == null) return "OK";
    for (Throwable cause = error; cause != null; cause = cause.getCause()) {
      if (cause instanceof StatusRuntimeException onWire) return onWire.getStatus().getCode().name();
    }
    return "LOCAL";
  }
}
