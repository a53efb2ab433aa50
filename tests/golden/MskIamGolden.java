// Writes msk_iam.txt: first messages of AWS_MSK_IAM as Amazon's own aws-msk-iam-auth makes them.
//
// Needs a JDK of version 17 or above, Maven and this file:
//
//   cat > /tmp/pom.xml <<'POM'
//   <project xmlns="http://maven.apache.org/POM/4.0.0">
//     <modelVersion>4.0.0</modelVersion>
//     <groupId>golden</groupId><artifactId>golden</artifactId><version>1</version>
//     <packaging>pom</packaging>
//     <dependencies><dependency>
//       <groupId>software.amazon.msk</groupId><artifactId>aws-msk-iam-auth</artifactId>
//       <version>2.3.2</version>
//     </dependency></dependencies>
//   </project>
//   POM
//   mvn -q -B -f /tmp/pom.xml dependency:copy-dependencies -DincludeScope=runtime \
//       -DoutputDirectory=/tmp/msk-jars
//   cd tests/golden
//   java -cp "/tmp/msk-jars/*" MskIamGolden.java > msk_iam.txt
//
// A message is a line `login HOST REGION ACCESS_KEY_ID SECRET_ACCESS_KEY SESSION_TOKEN`, `-` for no
// token, and a line `message JSON` with what the generator made of it; its time is in the message.
// The keys are those of AWS's documentation and of nobody.

import java.nio.charset.StandardCharsets;
import software.amazon.awssdk.auth.credentials.AwsBasicCredentials;
import software.amazon.awssdk.auth.credentials.AwsCredentials;
import software.amazon.awssdk.auth.credentials.AwsSessionCredentials;
import software.amazon.msk.auth.iam.internals.AWS4SignedPayloadGenerator;
import software.amazon.msk.auth.iam.internals.AuthenticationRequestParams;

public class MskIamGolden {
    static final String ID = "AKIAIOSFODNN7EXAMPLE";
    static final String SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
    /** Every character that tokens have, and some that have to be encoded. */
    static final String TOKEN =
            "IQoJb3JpZ2luX2VjEXAMPLE//////////wEaCWV1LXdlc3QtMSJHMEUCIQDx+y/z0a1b2c3~d4-e5_f6.g7==";

    public static void main(String[] args) throws Exception {
        String[] hosts = {
            "b-1.shop.abc123.c2.kafka.eu-west-1.amazonaws.com",
            "boot-x1y2z3.c3.kafka-serverless.us-east-1.amazonaws.com",
            "b-2.laden.abc123.c4.kafka.cn-north-1.amazonaws.com.cn",
        };
        for (String host : hosts) {
            write(host, AwsBasicCredentials.create(ID, SECRET), "-");
            write(host, AwsSessionCredentials.create("ASIAIOSFODNN7EXAMPLE", SECRET, TOKEN), TOKEN);
        }
    }

    static void write(String host, AwsCredentials credentials, String token) throws Exception {
        AuthenticationRequestParams params =
                AuthenticationRequestParams.create(host, credentials, "golden");
        String message;
        // The generator reads the clock twice: where a second ends in between, 899 s are left.
        do {
            byte[] made = new AWS4SignedPayloadGenerator().signedPayload(params);
            message = new String(made, StandardCharsets.UTF_8);
        } while (!message.contains("\"x-amz-expires\":\"900\""));
        System.out.println("login " + host + " " + params.getRegion() + " "
                + credentials.accessKeyId() + " " + credentials.secretAccessKey() + " " + token);
        System.out.println("message " + message);
        // Another second, for another date.
        Thread.sleep(1_100);
    }
}
