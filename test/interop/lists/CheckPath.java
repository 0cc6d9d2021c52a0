// Does Java's PKIX validator accept this chain by these lists?
// ROOT SIGNING LEAF LISTS: prints `accepted`, or `refused` and why. Every certificate below the root is checked.
import java.io.FileInputStream;
import java.security.cert.*;
import java.util.*;

public class CheckPath {
  public static void main(String[] args) throws Exception {
    CertificateFactory factory = CertificateFactory.getInstance("X.509");
    List<X509Certificate> read = new ArrayList<>();
    for (int i = 0; i < 3; i++) try (FileInputStream in = new FileInputStream(args[i])) { read.add((X509Certificate) factory.generateCertificate(in)); }
    Collection<? extends CRL> lists;
    try (FileInputStream in = new FileInputStream(args[3])) { lists = factory.generateCRLs(in); }
    PKIXParameters parameters = new PKIXParameters(Set.of(new TrustAnchor(read.get(0), null)));
    parameters.addCertStore(CertStore.getInstance("Collection", new CollectionCertStoreParameters(lists)));
    parameters.setRevocationEnabled(true);
    CertPathValidator validator = CertPathValidator.getInstance("PKIX");
    PKIXRevocationChecker checker = (PKIXRevocationChecker) validator.getRevocationChecker();
    checker.setOptions(EnumSet.of(PKIXRevocationChecker.Option.PREFER_CRLS, PKIXRevocationChecker.Option.NO_FALLBACK));
    parameters.addCertPathChecker(checker);
    try {
      validator.validate(factory.generateCertPath(List.of(read.get(2), read.get(1))), parameters);
      System.out.println("accepted");
    } catch (CertPathValidatorException refused) {
      System.out.println("refused " + refused.getReason());
    }
  }
}
