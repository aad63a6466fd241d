// Leaking LIVE OPENS
public class Leaking {
    static Object[] live;

    public static void main(String[] arguments) throws Exception {
        live = new Object[Integer.parseInt(arguments[0])];
        for (int i = 0; i < live.length; i++) live[i] = new int[4];
        for (int i = Integer.parseInt(arguments[1]); i > 0; i--) new java.io.FileInputStream("/etc/hostname").read();
        System.out.println("done");
        System.in.read();
    }
}
